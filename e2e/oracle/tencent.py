#!/usr/bin/env python3
"""Checks the emulator of Tencent's CLB with Tencent's official SDK.

Every action that the emulator has is called through the SDK. Each reply must be one
that the SDK's models hold in full: no field unknown to them, none of another type
than they say, none lost. Errors must come as the SDK's exceptions with the right code.

What is checked is the form of everything that goes over the wire, and the signature.
That the real cloud behaves as the emulator does is not.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from sdk import Client, Failed

KEY = ("AKIDoracle", "oracle-secret")
DENIED = ("AKIDdenied", "denied-secret")
VPC, SUBNET = "vpc-oracle00", "subnet-oracle00"
SETTINGS = {
    "keys": [KEY, DENIED], "denied": [DENIED[0]], "latency": 0.002, "task": 0.1, "rate": 1000,
    "vpcs": [{"id": VPC, "subnets": [{"id": SUBNET, "cidr": "10.20.0.0/24"}]}],
}


@contextmanager
def emulator(binary: Path):
    """Runs the emulator on a port of its own; gives the address. It never outlives us."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings.json"
        settings.write_text(json.dumps(SETTINGS))
        process = subprocess.Popen([binary, "--settings", settings], stdout=subprocess.PIPE, text=True)
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise Failed("the emulator did not start")
            yield address
            process.send_signal(signal.SIGTERM)
            if process.wait(10) != 0:
                raise Failed(f"the emulator ended with {process.returncode}")
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()


def equal(what: str, seen, expected) -> None:
    if seen != expected:
        raise Failed(f"{what}: {seen!r} instead of {expected!r}")


class World:
    """The steps, each building on what the ones before have left."""

    def __init__(self, client: Client):
        self.c = client
        self.lb = self.tcp = self.http = self.https = ""

    def done(self, name: str, **params):
        """Calls a write, and waits for its task by both ways that there are."""
        reply = self.c.ask(name, **params)
        for _ in range(100):
            task = self.c.ask("DescribeTaskStatus", TaskId=reply.RequestId)
            job, = self.c.ask("DescribeAsyncJobs", RequestIds=[reply.RequestId]).Jobs
            equal(f"{name}'s job", job.ApiName, name)
            if task.Status == 0 and job.Status == "Succeeded":
                return reply
            if task.Status == 1:
                raise Failed(f"{name}: its task failed: {task.Message}")
            time.sleep(0.05)
        raise Failed(f"{name}: its task does not end")

    def listeners(self, *ids: str):
        some = {"ListenerIds": list(ids)} if ids else {}
        return self.c.ask("DescribeListeners", LoadBalancerId=self.lb, **some).Listeners

    def load_balancers(self) -> None:
        params = {"LoadBalancerType": "INTERNAL", "LoadBalancerName": "oracle", "VpcId": VPC,
                  "SubnetId": SUBNET, "Forward": 1, "ClientToken": "token-1", "SlaType": "clb.c2.medium",
                  "Tags": [{"TagKey": "directlb", "TagValue": "oracle"}], "LoadBalancerPassToTarget": True}
        reply = self.done("CreateLoadBalancer", **params)
        self.lb, = reply.LoadBalancerIds
        again = self.c.ask("CreateLoadBalancer", **params)
        equal("the same token", (again.LoadBalancerIds, again.DealName), ([self.lb], reply.DealName))
        task = self.c.ask("DescribeTaskStatus", DealName=reply.DealName)
        equal("the order's load balancers", task.LoadBalancerIds, [self.lb])
        self.done("ModifyLoadBalancerAttributes", LoadBalancerId=self.lb, LoadBalancerName="renamed",
                  DeleteProtect=True,
                  InternetChargeInfo={"InternetChargeType": "TRAFFIC_POSTPAID_BY_HOUR",
                                      "InternetMaxBandwidthOut": 10})
        self.done("SetLoadBalancerSecurityGroups", LoadBalancerId=self.lb, SecurityGroups=["sg-1", "sg-2"])
        found = self.c.ask("DescribeLoadBalancers", Filters=[{"Name": "tag:directlb", "Values": ["oracle"]}],
                           Limit=100, Offset=0, AdditionalFields=["TargetCount"])
        lb, = found.LoadBalancerSet
        equal("the load balancer", (
            found.TotalCount, lb.LoadBalancerId, lb.LoadBalancerName, lb.Status, lb.LoadBalancerVips,
            lb.VpcId, lb.SubnetId, lb.SecureGroups, lb.AttributeFlags, lb.Tags[0].TagKey, lb.Tags[0].TagValue,
            lb.NetworkAttributes.InternetMaxBandwidthOut, lb.LoadBalancerPassToTarget, lb.TargetCount,
            lb.SlaType, lb.AddressIPVersion,
        ), (1, self.lb, "renamed", 1, ["10.20.0.2"], VPC, SUBNET, ["sg-1", "sg-2"], ["DeleteProtect"],
            "directlb", "oracle", 10, True, 0, "clb.c2.medium", "ipv4"))
        quota = {q.QuotaId: (q.QuotaCurrent, q.QuotaLimit) for q in self.c.ask("DescribeQuota").QuotaSet}
        equal("the quota", quota["TOTAL_INTERNAL_CLB_QUOTA"], (1, 100))

    def make_listeners(self) -> None:
        check = {"HealthSwitch": 1, "TimeOut": 2, "IntervalTime": 3, "HealthNum": 2, "UnHealthNum": 2,
                 "CheckType": "HTTP", "HttpVersion": "HTTP/1.1", "HttpCheckDomain": "a.test",
                 "HttpCheckPath": "/ready", "HttpCheckMethod": "GET", "HttpCode": 2, "SourceIpType": 1,
                 "CheckPort": 8081}
        self.tcp, second = self.done(
            "CreateListener", LoadBalancerId=self.lb, Ports=[80, 81], Protocol="TCP",
            ListenerNames=["one", "two"], HealthCheck=check, Scheduler="LEAST_CONN", SessionExpireTime=30,
            DeregisterTargetRst=True, IdleConnectTimeout=60, RescheduleInterval=30).ListenerIds
        self.http, = self.done("CreateListener", LoadBalancerId=self.lb, Ports=[8080], Protocol="HTTP",
                               KeepaliveEnable=1).ListenerIds
        self.https, = self.done("CreateListener", LoadBalancerId=self.lb, Ports=[443], Protocol="HTTPS",
                                Certificate={"SSLMode": "UNIDIRECTIONAL", "CertId": "cert-old"}).ListenerIds
        self.done("CreateListener", LoadBalancerId=self.lb, Ports=[53], Protocol="UDP",
                  HealthCheck={"CheckType": "CUSTOM", "ContextType": "TEXT", "SendContext": "a",
                               "RecvContext": "b"})
        tcp, = self.listeners(self.tcp)
        equal("the listener", (
            tcp.ListenerName, tcp.Protocol, tcp.Port, tcp.Scheduler, tcp.SessionExpireTime,
            tcp.DeregisterTargetRst, tcp.IdleConnectTimeout, tcp.RescheduleInterval, tcp.Rules,
        ), ("one", "TCP", 80, "LEAST_CONN", 30, True, 60, 30, None))
        for name, value in check.items():
            equal(f"the check's {name}", getattr(tcp.HealthCheck, name), value)
        self.done("ModifyListener", LoadBalancerId=self.lb, ListenerId=self.tcp, ListenerName="new",
                  Scheduler="WRR", HealthCheck={"HealthNum": 3})
        tcp, = self.listeners(self.tcp)
        equal("the new listener", (tcp.ListenerName, tcp.Scheduler, tcp.HealthCheck.HealthNum,
                                   tcp.HealthCheck.HttpCheckPath), ("new", "WRR", 3, "/ready"))
        self.done("ReplaceCertForLoadBalancers", OldCertificateId="cert-old",
                  Certificate={"SSLMode": "UNIDIRECTIONAL", "CertId": "cert-new"})
        https, = self.listeners(self.https)
        equal("the certificate", https.Certificate.CertId, "cert-new")
        self.done("DeleteListener", LoadBalancerId=self.lb, ListenerId=second)
        by_port = self.c.ask("DescribeListeners", LoadBalancerId=self.lb, Protocol="UDP", Port=53)
        equal("the listener by port", by_port.TotalCount, 1)

    def make_rules(self) -> None:
        rules = [{"Domain": "a.test", "Url": "/", "Scheduler": "WRR", "SessionExpireTime": 0,
                  "HealthCheck": {"CheckType": "HTTP", "HttpCheckPath": "/ready", "HttpCode": 3}},
                 {"Domains": ["b.test", "c.test"], "Url": "/api", "ForwardType": "HTTP"}]
        self.rule, other = self.done("CreateRule", LoadBalancerId=self.lb, ListenerId=self.http,
                                     Rules=rules).LocationIds
        secure, = self.done("CreateRule", LoadBalancerId=self.lb, ListenerId=self.https,
                            Rules=[{"Domain": "a.test", "Url": "/", "ForwardType": "GRPC", "Http2": True}],
                            ).LocationIds
        self.done("ModifyRule", LoadBalancerId=self.lb, ListenerId=self.http, LocationId=self.rule,
                  Url="/x", Scheduler="IP_HASH", HealthCheck={"HttpCheckPath": "/y"})
        self.done("ModifyDomainAttributes", LoadBalancerId=self.lb, ListenerId=self.http, Domain="c.test",
                  DefaultServer=True, NewDomains=["b.test", "d.test"])
        http, https = self.listeners(self.http, self.https)
        shown = {r.LocationId: r for r in http.Rules}
        one, two = shown[self.rule], shown[other]
        equal("the rules", (one.Url, one.Domain, one.Scheduler, one.HealthCheck.HttpCheckPath,
                            one.HealthCheck.HttpCode, one.DefaultServer, two.DefaultServer, two.Domains),
              ("/x", "a.test", "IP_HASH", "/y", 3, False, True, ["b.test", "d.test"]))
        equal("the secure rule", (https.Rules[0].Http2, https.Rules[0].ForwardType,
                                  https.Rules[0].HealthCheck.CheckType), (True, "GRPC", "GRPC"))
        redirect = {"LoadBalancerId": self.lb, "SourceListenerId": self.http, "TargetListenerId": self.https,
                    "RewriteInfos": [{"SourceLocationId": other, "TargetLocationId": secure,
                                      "RewriteCode": 301, "TakeUrl": True, "SourceDomain": "b.test"}]}
        self.done("ManualRewrite", **redirect)
        shown, = self.c.ask("DescribeRewrite", LoadBalancerId=self.lb).RewriteSet
        to = shown.RewriteTarget
        equal("the redirect", (shown.LocationId, to.TargetListenerId, to.TargetLocationId, to.RewriteCode,
                               to.TakeUrl), (other, self.https, secure, 301, True))
        self.c.refused("InvalidParameter.RewriteAlreadyExist", "ManualRewrite", **redirect)
        self.done("DeleteRewrite", **redirect)
        equal("the redirects", self.c.ask("DescribeRewrite", LoadBalancerId=self.lb).RewriteSet, [])
        self.done("DeleteRule", LoadBalancerId=self.lb, ListenerId=self.http, LocationIds=[other],
                  NewDefaultServerDomain="a.test")

    def targets(self) -> None:
        at = {"LoadBalancerId": self.lb, "ListenerId": self.tcp}
        pod = {"EniIp": "10.30.0.1", "Port": 8080}
        batch = [{"ListenerId": self.tcp, **pod, "Weight": 5, "Tag": "t"},
                 {"ListenerId": self.http, "LocationId": self.rule, **pod},
                 {"ListenerId": self.tcp, "InstanceId": "ins-1", "Port": 80}]
        reply = self.done("BatchRegisterTargets", LoadBalancerId=self.lb, Targets=batch)
        equal("what failed", (reply.FailListenerIdSet, reply.Message), ([], ""))
        self.done("BatchModifyTargetWeight", LoadBalancerId=self.lb, ModifyList=[
            {"ListenerId": self.tcp, "Targets": [pod], "Weight": 0},
            {"ListenerId": self.http, "LocationId": self.rule, "Targets": [{**pod, "Weight": 7}]}])
        shown = self.c.ask("DescribeTargets", LoadBalancerId=self.lb, ListenerIds=[self.tcp, self.http],
                           Filters=[{"Name": "private-ip-address", "Values": ["10.30.0.1"]}]).Listeners
        one, two = shown[0].Targets[0], shown[1].Rules[0].Targets[0]
        equal("the targets", (len(shown[0].Targets), one.Type, one.PrivateIpAddresses, one.Port, one.Weight,
                              one.Tag, two.Weight), (1, "ENI", ["10.30.0.1"], 8080, 0, "t", 7))
        self.done("RegisterTargets", **at, Targets=[{"EniIp": "10.30.0.2", "Port": 8080}])
        self.done("ModifyTargetWeight", **at, Targets=[{"EniIp": "10.30.0.2", "Port": 8080}], Weight=3)
        health, = self.c.ask("DescribeTargetHealth", LoadBalancerIds=[self.lb],
                             ListenerIds=[self.tcp]).LoadBalancers
        states = {t.IP: (t.Port, t.HealthStatus, t.HealthStatusDetail, t.Weight)
                  for t in health.Listeners[0].Rules[0].Targets}
        equal("health", states["10.30.0.2"], (8080, False, "Unknown", 3))
        self.done("DeregisterTargets", **at, Targets=[{"EniIp": "10.30.0.2", "Port": 8080}])
        reply = self.done("BatchDeregisterTargets", LoadBalancerId=self.lb, Targets=[
            {"ListenerId": self.tcp, **pod}, {"ListenerId": self.http, "LocationId": self.rule, "EniIp": "10.30.0.9",
                                              "Port": 1}])
        equal("what failed", reply.FailListenerIdSet, [self.http])
        left = self.c.ask("DescribeTargets", LoadBalancerId=self.lb).Listeners
        left = {l.ListenerId: l for l in left}
        equal("what is left", ([t.InstanceId for t in left[self.tcp].Targets],
                               len(left[self.http].Rules[0].Targets)), (["ins-1"], 1))

    def errors(self, address: str) -> None:
        refused = self.c.refused
        lb = {"LoadBalancerId": self.lb}
        Client(address, (KEY[0], "wrong")).refused("AuthFailure.SignatureFailure", "DescribeQuota")
        Client(address, ("AKIDnobody", "x")).refused("AuthFailure.SecretIdNotFound", "DescribeQuota")
        Client(address, DENIED).refused("UnauthorizedOperation", "DescribeQuota")
        Client(address, KEY, "ap-moon").refused("UnsupportedRegion", "DescribeQuota")
        refused("InvalidParameter.LBIdNotFound", "DescribeListeners", LoadBalancerId="lb-unknown0")
        refused("InvalidParameter.ListenerIdNotFound", "DeleteListener", **lb, ListenerId="lbl-unknown0")
        refused("InvalidParameter.LocationNotFound", "DeleteRule", **lb, ListenerId=self.http,
                LocationIds=["loc-unknown0"])
        refused("InvalidParameter", "DeleteLoadBalancerListeners", **lb, ListenerIds=["lbl-unknown0"])
        refused("MissingParameter", "CreateListener", **lb, Ports=[1])
        refused("InvalidParameterValue.Length", "BatchRegisterTargets", **lb, Targets=[
            {"ListenerId": self.tcp, "EniIp": "10.30.1.1", "Port": p} for p in range(1, 502)])
        refused("InvalidParameterValue.Range", "BatchRegisterTargets", **lb, Targets=[
            {"ListenerId": self.tcp, "EniIp": "10.30.1.1", "Port": 1, "Weight": 101}])
        refused("InvalidParameter.PortCheckFailed", "CreateListener", **lb, Ports=[80], Protocol="HTTP")
        refused("InvalidParameter.InvalidFilter", "DescribeTargets", **lb,
                Filters=[{"Name": "moon", "Values": ["x"]}])
        refused("OperationDenied", "DeleteLoadBalancer", LoadBalancerIds=[self.lb])
        refused("ResourceNotFound", "DescribeTaskStatus", TaskId="unknown")
        refused("InvalidParameter", "CreateLoadBalancer", LoadBalancerType="OPEN", ClientToken="token-1")
        self.c.ask("ModifyLoadBalancerAttributes", **lb, LoadBalancerName="busy")
        refused("FailedOperation.ResourceInOperating", "SetLoadBalancerSecurityGroups", **lb)
        time.sleep(0.2)

    def end(self) -> None:
        self.done("ModifyLoadBalancerAttributes", LoadBalancerId=self.lb, DeleteProtect=False)
        self.done("DeleteLoadBalancerListeners", LoadBalancerId=self.lb, ListenerIds=[self.tcp, self.http])
        equal("the listeners", len(self.listeners()), 2)
        self.done("DeleteLoadBalancer", LoadBalancerIds=[self.lb], ForceDelete=True)
        equal("the load balancers", self.c.ask("DescribeLoadBalancers").TotalCount, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", type=Path, help="the emulator")
    binary = parser.parse_args().binary.resolve()
    actions = subprocess.run([binary, "--actions"], check=True, capture_output=True, text=True).stdout.split()
    with emulator(binary) as address:
        client = Client(address, KEY)
        world = World(client)
        for step in (world.load_balancers, world.make_listeners, world.make_rules, world.targets,
                     lambda: world.errors(address), world.end):
            step()
    missed = set(actions) - client.called
    if missed:
        raise Failed(f"no check calls {', '.join(sorted(missed))}")
    print(f"Tencent's SDK agrees with the emulator on all {len(actions)} actions")


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"tencent.py: {failed}")
