//! Everything that may be wrong with objects of a cloud's class, all at once: each is told by a condition, an event and a
//! metric, and none keeps the others from being served.

use e2e::{
    Namespace, SYSTEM,
    clb::{Clb, KEYS},
    cluster, eventually,
    namespace::condition_of,
    need_cluster, pause, secs,
    tencent::Faults,
    yaml,
};
use serde_json::{Value, json};

const DENIED: (&str, &str) = ("AKIDdenied", "denied-secret");

/// An object whose Pods do not wait for it, as other objects send to them too.
fn object(name: &str, class: &str, load_balancer: &str, listeners: &str) -> String {
    yaml::lb(
        name,
        &format!(
            "  className: {class}
  loadBalancer: {{{load_balancer}}}
  readinessGate: Disabled
  target: {{workload: {{kind: Deployment, name: web}}}}
  drain: {{timeout: 1s}}
  listeners:
{listeners}"
        ),
    )
}

const TCP: &str = "  - {name: tcp, protocol: TCP, port: 9000, targetPort: tcp}";
const INTERNAL: &str = "scheme: Internal";

/// What a user sees.
struct Told {
    object: &'static str,
    condition: &'static str,
    reason: &'static str,
    says: &'static str,
}

const fn told(object: &'static str, condition: &'static str, reason: &'static str, says: &'static str) -> Told {
    Told { object, condition, reason, says }
}

fn check(ns: &Namespace, all: &[Told]) {
    for t in all {
        let message = ns.wait_condition(t.object, t.condition, "False", t.reason);
        assert!(message.contains(t.says), "{}: {message:?} does not say {:?}", t.object, t.says);
    }
    // Accepted, Programmed and TargetsReady stand apart; Ready is what people look at first.
    let ready: Vec<_> = all.iter().filter(|t| ns.condition(t.object, "Ready").0 == "True").map(|t| t.object).collect();
    assert!(ready.is_empty(), "Ready all the same: {ready:?}");
    eventually("an event for each", secs(30), || {
        let events = ns.events();
        let seen = |t: &&Told| {
            events
                .iter()
                .any(|e| e["involvedObject"]["name"] == t.object && e["reason"] == t.reason && e["type"] == "Warning")
        };
        let missing: Vec<_> = all.iter().filter(|t| !seen(t)).map(|t| (t.object, t.reason)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("none for {missing:?}")) }
    });
    eventually("a metric for each", secs(30), || {
        let metrics = metrics();
        let counted = |t: &&Told| {
            let labels = format!("{{name=\"{}\",namespace=\"{}\",reason=\"{}\"}} ", t.object, ns.name, t.reason);
            let line = |l: &str| l.starts_with("directlb_") && l.contains(&labels) && !l.ends_with(" 0");
            metrics.lines().any(line)
        };
        let missing: Vec<_> = all.iter().filter(|t| !counted(t)).map(|t| (t.object, t.reason)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("none for {missing:?}")) }
    });
}

/// Those of every controller: the leader's are among them.
fn metrics() -> String {
    let pods = cluster().get(&["pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=controller"]);
    let names = pods["items"].as_array().unwrap().iter().map(|p| p["metadata"]["name"].as_str().unwrap());
    let of = |name| {
        let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{name}:8080/proxy/metrics");
        let done = cluster().try_kubectl(&["get", "--raw", &path]);
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    names.map(of).collect()
}

fn by_hand(clb: &Clb, action: &str, params: Value) -> Value {
    clb.emulator.plain(action, params).unwrap_or_else(|e| panic!("{action}: {e:?}"))
}

/// A load balancer that somebody else has made.
fn foreign(clb: &Clb) -> String {
    let params = json!({"LoadBalancerType": "INTERNAL", "VpcId": "vpc-emulator", "SubnetId": "subnet-emulator"});
    by_hand(clb, "CreateLoadBalancer", params)["LoadBalancerIds"][0].as_str().unwrap().to_owned()
}

#[test]
fn each_trouble_is_told_and_keeps_nothing_else_from_being_served() {
    need_cluster!();
    if !cluster().is_lab() {
        return eprintln!("skipped: a cluster's controllers cannot reach an emulator here");
    }
    let main = Clb::start_with("clb-main", true, |s| {
        s.keys.push((DENIED.0.into(), DENIED.1.into()));
        s.denied.push(DENIED.0.into());
    });
    let adopted = [foreign(&main), foreign(&main)];
    let port = json!({"LoadBalancerId": adopted[0], "Ports": [9000], "Protocol": "TCP", "ListenerNames": ["theirs"]});
    let theirs = by_hand(&main, "CreateListener", port)["ListenerIds"][0].clone();
    let mut spec = main.spec();
    spec["tencent"]["adoptableLoadBalancers"] = json!([adopted[0], adopted[1], "lb-nowhere0"]);
    main.class(&spec).unwrap();
    let classes = [
        main.another("clb-keyid", ("AKIDunknown", KEYS.1), |_| {}),
        main.another("clb-key", (KEYS.0, "wrong"), |_| {}),
        main.another("clb-denied", DENIED, |_| {}),
        main.another("clb-region", KEYS, |s| s["region"] = "ap-atlantis".into()),
        main.another("clb-vpc", KEYS, |s| s["vpcId"] = "vpc-unknown0".into()),
        main.another("clb-subnet", KEYS, |s| s["subnetId"] = "subnet-unknown0".into()),
    ];
    let quota = Clb::start_with("clb-quota", false, |s| {
        for (id, limit) in [
            ("TOTAL_INTERNAL_CLB_QUOTA", 3),
            ("TOTAL_LISTENER_QUOTA", 1),
            ("TOTAL_LISTENER_RULE_QUOTA", 2),
            ("TOTAL_TARGET_BIND_QUOTA", 2),
        ] {
            s.quotas.insert(id.into(), limit);
        }
    });
    let stuck = Clb::start_with("clb-stuck", false, |s| s.stuck = secs(140));
    let skewed = Clb::start_with("clb-skewed", false, |s| s.start -= 3600);
    let refused = Clb::start("clb-refused", false);
    for clb in [&quota, &stuck, &skewed, &refused] {
        clb.class(&clb.spec()).unwrap();
    }
    let ns = Namespace::new("clbtroubles");
    ns.apply(&yaml::deployment("web", 3, &[]));
    ns.rolled_out("deployment/web");
    let pod = ns.pods("app=web").remove(0);
    let (pod_name, pod_ip) = (pod["metadata"]["name"].as_str().unwrap(), pod["status"]["podIP"].as_str().unwrap());
    refused.emulator.set_refused_address(pod_ip, true);
    ns.kubectl(&["annotate", "pod", pod_name, "tke.cloud.tencent.com/networks=tke-bridge"]);

    // One whose task will never end.
    ns.apply(&object("stuck", "clb-stuck", INTERNAL, TCP));
    ns.wait_ready("stuck", 3);
    stuck.emulator.set_faults(Faults { task_stuck: 1.0, ..Faults::default() });
    let another = "  - {name: other, protocol: TCP, port: 9002, targetPort: tcp}";
    ns.apply(&object("stuck", "clb-stuck", INTERNAL, &format!("{TCP}\n{another}")));
    eventually("the task has begun", secs(30), || {
        let tasks = stuck.emulator.dump()["Tasks"].clone();
        if tasks.as_array().is_some_and(|t| !t.is_empty()) { Ok(()) } else { Err(tasks.to_string()) }
    });
    stuck.emulator.set_faults(Faults::default());

    let adopt = |id: &str| format!("id: {id}");
    let rules = "  - {name: http, protocol: HTTP, port: 80, targetPort: http, rules: [\
                 {path: /a, target: {workload: {kind: Deployment, name: web}}}, \
                 {path: /b, target: {workload: {kind: Deployment, name: web}}}]}";
    let check_of_1s = "  - {name: tcp, protocol: TCP, port: 9000, targetPort: tcp, healthCheck: {interval: 1s}}";
    for yaml in [
        object("fine", "clb-main", INTERNAL, TCP),
        object("keyid", "clb-keyid", INTERNAL, TCP),
        object("key", "clb-key", INTERNAL, TCP),
        object("denied", "clb-denied", INTERNAL, TCP),
        object("region", "clb-region", INTERNAL, TCP),
        object("vpc", "clb-vpc", INTERNAL, TCP),
        object("subnet", "clb-subnet", INTERNAL, TCP),
        object("nowhere", "clb-main", &adopt("lb-nowhere0"), TCP),
        object("notallowed", "clb-main", &adopt("lb-theirs00"), TCP),
        object("taken", "clb-main", &adopt(&adopted[0]), TCP),
        object("first", "clb-main", &adopt(&adopted[1]), TCP),
        object("ranges", "clb-main", INTERNAL, check_of_1s),
        object("vanished", "clb-main", INTERNAL, TCP),
        object("listeners", "clb-quota", INTERNAL, &format!("{TCP}\n{another}")),
        object("rules", "clb-quota", INTERNAL, rules),
        object("targets", "clb-quota", INTERNAL, TCP),
        object("skewed", "clb-skewed", INTERNAL, TCP),
        object("refused", "clb-refused", INTERNAL, TCP),
    ] {
        ns.apply(&yaml);
    }
    for name in ["fine", "first", "vanished"] {
        ns.wait_ready(name, 3);
    }
    // The second to ask for the same listener, and the load balancer that is one too many.
    ns.apply(&object("second", "clb-main", &adopt(&adopted[1]), TCP));
    eventually("the quota of load balancers is used up", secs(60), || {
        if quota.balancers() == 3 { Ok(()) } else { Err(quota.balancers().to_string()) }
    });
    ns.apply(&object("balancers", "clb-quota", INTERNAL, TCP));
    check(
        &ns,
        &[
            told("keyid", "Programmed", "CredentialsRefused", "AuthFailure.SecretIdNotFound"),
            told("key", "Programmed", "CredentialsRefused", "AuthFailure.SignatureFailure"),
            told("denied", "Programmed", "CredentialsRefused", "UnauthorizedOperation"),
            told("region", "Programmed", "CloudRejected", "UnsupportedRegion"),
            told("vpc", "Programmed", "CloudRejected", "vpc-unknown0"),
            told("subnet", "Programmed", "CloudRejected", "subnet-unknown0"),
            told("nowhere", "Programmed", "LoadBalancerNotFound", "there is no load balancer lb-nowhere0"),
            told("notallowed", "Accepted", "AdoptionNotAllowed", "\"lb-theirs00\" may not be adopted"),
            told("taken", "Programmed", "CloudConflict", "9000"),
            told("second", "Programmed", "CloudConflict", "9000"),
            told("ranges", "Accepted", "Invalid", "spec.listeners[0].healthCheck.interval: \"1s\""),
            told("listeners", "Programmed", "QuotaExceeded", "TOTAL_LISTENER_QUOTA is 1 for a load balancer"),
            told("rules", "Programmed", "QuotaExceeded", "TOTAL_LISTENER_RULE_QUOTA is 2 for a listener"),
            told("targets", "TargetsReady", "QuotaExceeded", "TOTAL_TARGET_BIND_QUOTA is 2 for a listener or rule"),
            told("balancers", "Programmed", "QuotaExceeded", "TOTAL_INTERNAL_CLB_QUOTA"),
            told("skewed", "Programmed", "CredentialsRefused", "AuthFailure.SignatureExpire"),
            told("refused", "TargetsReady", "CloudRejected", "is on network tke-bridge"),
        ],
    );
    assert_eq!(refused.bound().len(), 2, "the others are bound");
    assert!(ns.condition("refused", "TargetsReady").2.contains(pod_ip));

    // Which Pod is left out, and how much is used.
    let object = ns.get(&["directloadbalancer", "targets"]);
    let (_, reason, message) = condition_of(&object, "WithinQuota");
    assert!(reason == "QuotaExceeded" && message.contains("left out: web-"), "{object:#}");
    let used = json!({"resource": "Targets", "listener": "tcp", "used": 2, "limit": 2});
    assert!(object["status"]["quotas"].as_array().unwrap().contains(&used), "{object:#}");

    // A listener vanishes just before it is written to; everything else follows all the same.
    let id = ns.get(&["directloadbalancer", "vanished"])["status"]["loadBalancer"]["id"].clone();
    let listeners = by_hand(&main, "DescribeListeners", json!({"LoadBalancerId": id}));
    let gone = listeners["Listeners"][0]["ListenerId"].clone();
    by_hand(&main, "DeleteListener", json!({"LoadBalancerId": id, "ListenerId": gone}));
    ns.kubectl(&["scale", "deployment/web", "--replicas=4"]);
    for name in ["fine", "first", "vanished"] {
        ns.wait_ready(name, 4);
    }
    ns.wait_event("an event of the listener that had vanished", secs(30), |e| {
        let text = e["message"].as_str().unwrap_or_default();
        e["involvedObject"]["name"] == "vanished" && text.contains("ListenerIdNotFound") && text.contains("RequestId")
    });

    // Put right, each goes on by itself.
    skewed.emulator.put_clock_forward(3600);
    refused.emulator.set_refused_address(pod_ip, false);
    for (id, limit) in
        [("TOTAL_INTERNAL_CLB_QUOTA", 10), ("TOTAL_LISTENER_QUOTA", 50), ("TOTAL_LISTENER_RULE_QUOTA", 50)]
    {
        quota.emulator.set_quota(id, limit);
    }
    quota.emulator.set_quota("TOTAL_TARGET_BIND_QUOTA", 200);
    for name in ["skewed", "refused", "listeners", "rules", "targets", "balancers"] {
        ns.wait_ready_within(name, 4, secs(150));
    }
    // By now the task that never ended is given up, told, and what it was for is done again.
    ns.wait_event("the stuck task is told", secs(150), |e| {
        e["involvedObject"]["name"] == "stuck" && e["reason"] == "CloudUnavailable"
    });
    ns.wait_ready_within("stuck", 4, secs(150));
    // What others have made is as it was.
    let listeners = by_hand(&main, "DescribeListeners", json!({"LoadBalancerId": adopted[0]}));
    assert_eq!((listeners["TotalCount"].as_i64(), &listeners["Listeners"][0]["ListenerId"]), (Some(1), &theirs));
    pause(secs(1));
    ns.kubectl(&["delete", "directloadbalancers", "--all", "--wait=false"]);
    // A class cannot be right any more for those: the cloud is.
    drop(classes);
    eventually("every object is gone", secs(90), || {
        let left = ns.get(&["directloadbalancers"]);
        let left: Vec<_> =
            left["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].to_string()).collect();
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    });
    assert_eq!(main.balancers(), 2, "only what others made is left: {:#}", main.emulator.dump());
    assert_eq!(quota.balancers() + stuck.balancers() + skewed.balancers() + refused.balancers(), 0);
}
