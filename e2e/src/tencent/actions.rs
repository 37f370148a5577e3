//! The actions, and what each takes: as the fields of the SDK's request models say.

use super::schema::Kind::{Any, Bool, Int, List, Object, OneOf, Text};
use super::schema::{Field, Kind, may, must};

/// Longer than anything that the cloud takes, where it does not say how long.
const LONG: usize = 100_000;
const MANY: usize = 1_000;
const ID: Kind = Text(1, 64);
const SOME: Kind = Text(0, 255);
const NAME: Kind = Text(1, 80);
const PORT: Kind = Int(1, 65_535);
const WEIGHT: Kind = Int(0, 100);
const SWITCH: Kind = Int(0, 1);
const PROTOCOL: Kind = OneOf(&["TCP", "UDP", "HTTP", "HTTPS", "TCP_SSL", "QUIC"]);
const SCHEDULER: Kind = OneOf(&["WRR", "LEAST_CONN", "IP_HASH"]);
const TARGET_TYPE: Kind = OneOf(&["NODE", "TARGETGROUP", "TARGETGROUP-V2"]);
const SESSION_TYPE: Kind = OneOf(&["NORMAL", "QUIC_CID"]);
const LB: Field = must("LoadBalancerId", ID);
const LISTENER: Field = must("ListenerId", ID);

const fn ids(from: usize, to: usize) -> Kind {
    List(&ID, from, to)
}

const TAG: Kind = Object(&[must("TagKey", Text(1, 127)), must("TagValue", Text(0, 255))]);
const FILTER: Kind = Object(&[must("Name", Text(1, 255)), must("Values", List(&SOME, 1, 100))]);
const INTERNET: Kind = Object(&[
    may(
        "InternetChargeType",
        OneOf(&["TRAFFIC_POSTPAID_BY_HOUR", "BANDWIDTH_POSTPAID_BY_HOUR", "BANDWIDTH_PACKAGE", "BANDWIDTH_PREPAID"]),
    ),
    may("InternetMaxBandwidthOut", Int(0, 61_440)),
    may("BandwidthpkgSubType", SOME),
]);
const CERTIFICATE: Kind = Object(&[
    may("SSLMode", OneOf(&["UNIDIRECTIONAL", "MUTUAL"])),
    may("SSLVerifyClient", OneOf(&["ON", "OPTIONAL"])),
    may("CertId", ID),
    may("CertCaId", ID),
    may("CertName", NAME),
    may("CertKey", Text(1, LONG)),
    may("CertContent", Text(1, LONG)),
    may("CertCaName", NAME),
    may("CertCaContent", Text(1, LONG)),
]);
const CERTIFICATES: Kind = Object(&[
    must("SSLMode", OneOf(&["UNIDIRECTIONAL", "MUTUAL"])),
    must(
        "CertList",
        List(
            &Object(&[
                may("CertId", ID),
                may("CertName", NAME),
                may("CertContent", Text(1, LONG)),
                may("CertKey", Text(1, LONG)),
            ]),
            1,
            20,
        ),
    ),
    may("SSLVerifyClient", OneOf(&["ON", "OPTIONAL"])),
]);
const HEALTH: Kind = Object(&[
    may("HealthSwitch", SWITCH),
    may("TimeOut", Int(2, 60)),
    may("IntervalTime", Int(2, 300)),
    may("HealthNum", Int(2, 10)),
    may("UnHealthNum", Int(2, 10)),
    may("HttpCode", Int(1, 31)),
    may("HttpCheckPath", Text(1, 200)),
    may("HttpCheckDomain", Text(0, 80)),
    may("HttpCheckMethod", OneOf(&["HEAD", "GET"])),
    may("CheckPort", Int(-1, 65_535)),
    may("ContextType", OneOf(&["HEX", "TEXT"])),
    may("SendContext", Text(1, 500)),
    may("RecvContext", Text(1, 500)),
    may("CheckType", OneOf(&["TCP", "HTTP", "HTTPS", "GRPC", "PING", "CUSTOM"])),
    may("HttpVersion", OneOf(&["HTTP/1.0", "HTTP/1.1"])),
    may("SourceIpType", SWITCH),
    may("ExtendedCode", SOME),
]);
const RULE: Kind = Object(&[
    must("Url", Text(1, 200)),
    may("Domain", Text(1, 80)),
    may("Domains", List(&Text(1, 80), 1, 20)),
    // 0, or from 30 on.
    may("SessionExpireTime", Int(0, 86_400)),
    may("HealthCheck", HEALTH),
    may("Certificate", CERTIFICATE),
    may("MultiCertInfo", CERTIFICATES),
    may("Scheduler", SCHEDULER),
    may("ForwardType", OneOf(&["HTTP", "HTTPS", "GRPC", "GRPCS"])),
    may("DefaultServer", Bool),
    may("Http2", Bool),
    may("TargetType", TARGET_TYPE),
    may("Quic", Bool),
    may("CookieName", NAME),
]);
const BATCH_TARGET: Kind = Object(&[
    LISTENER,
    must("Port", PORT),
    may("InstanceId", ID),
    may("EniIp", Text(1, 64)),
    may("Weight", WEIGHT),
    may("LocationId", ID),
    may("Tag", SOME),
]);
const TARGET: Kind = Object(&[
    must("Port", PORT),
    may("Type", OneOf(&["CVM", "ENI"])),
    may("InstanceId", ID),
    may("Weight", WEIGHT),
    may("EniIp", Text(1, 64)),
    may("Tag", SOME),
]);
const REWRITE: Kind = Object(&[
    must("SourceLocationId", ID),
    must("TargetLocationId", ID),
    may("RewriteCode", Int(301, 307)),
    may("TakeUrl", Bool),
    may("SourceDomain", Text(1, 80)),
]);
const REWRITES: &[Field] =
    &[LB, must("SourceListenerId", ID), must("TargetListenerId", ID), must("RewriteInfos", List(&REWRITE, 1, MANY))];
const BATCH: &[Field] = &[LB, must("Targets", List(&BATCH_TARGET, 1, 500))];
const ONE_BY_ONE: &[Field] = &[
    LB,
    LISTENER,
    must("Targets", List(&TARGET, 1, 20)),
    may("LocationId", ID),
    may("Domain", Text(1, 80)),
    may("Url", Text(1, 200)),
];

/// How an action is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It shows something.
    Read,
    /// It changes something, by a task.
    Write,
}

/// An action.
pub(super) struct Action {
    pub(super) name: &'static str,
    pub(super) mode: Mode,
    pub(super) fields: &'static [Field],
}

const fn read(name: &'static str, fields: &'static [Field]) -> Action {
    Action { name, mode: Mode::Read, fields }
}

const fn write(name: &'static str, fields: &'static [Field]) -> Action {
    Action { name, mode: Mode::Write, fields }
}

/// All of them.
pub(super) static ACTIONS: [Action; NUMBER] = ALL;

/// How many there are.
pub(super) const NUMBER: usize = 29;

/// The same, for constants.
pub(super) const ALL: [Action; NUMBER] = [
    write("CreateLoadBalancer", CREATE_LB),
    read("DescribeLoadBalancers", DESCRIBE_LBS),
    write("ModifyLoadBalancerAttributes", MODIFY_LB),
    write("DeleteLoadBalancer", &[must("LoadBalancerIds", ids(1, 20)), may("ForceDelete", Bool)]),
    write("CreateListener", CREATE_LISTENER),
    write("ModifyListener", MODIFY_LISTENER),
    write("DeleteListener", &[LB, LISTENER]),
    write("DeleteLoadBalancerListeners", &[LB, may("ListenerIds", ids(1, 20))]),
    read("DescribeListeners", &[LB, may("ListenerIds", ids(1, 100)), may("Protocol", PROTOCOL), may("Port", PORT)]),
    write("CreateRule", &[LB, LISTENER, must("Rules", List(&RULE, 1, MANY))]),
    write("ModifyRule", MODIFY_RULE),
    write("ModifyDomainAttributes", MODIFY_DOMAIN),
    write(
        "DeleteRule",
        &[
            LB,
            LISTENER,
            may("LocationIds", ids(1, MANY)),
            may("Domain", Text(1, 80)),
            may("Url", Text(1, 200)),
            may("NewDefaultServerDomain", Text(1, 80)),
        ],
    ),
    write("ManualRewrite", REWRITES),
    read("DescribeRewrite", &[LB, may("SourceListenerIds", ids(1, 100)), may("SourceLocationIds", ids(1, MANY))]),
    write("DeleteRewrite", REWRITES),
    write("BatchRegisterTargets", BATCH),
    write("BatchDeregisterTargets", BATCH),
    write("BatchModifyTargetWeight", &[LB, must("ModifyList", List(&WEIGHTS, 1, 100))]),
    write("RegisterTargets", ONE_BY_ONE),
    write("DeregisterTargets", ONE_BY_ONE),
    write("ModifyTargetWeight", WEIGHTS_OF_ONE),
    read(
        "DescribeTargets",
        &[
            LB,
            may("ListenerIds", ids(1, 20)),
            may("Protocol", PROTOCOL),
            may("Port", PORT),
            may("Filters", List(&FILTER, 1, 10)),
        ],
    ),
    read(
        "DescribeTargetHealth",
        &[must("LoadBalancerIds", ids(1, 30)), may("ListenerIds", ids(1, MANY)), may("LocationIds", ids(1, MANY))],
    ),
    read("DescribeTaskStatus", &[may("TaskId", ID), may("DealName", ID)]),
    read(
        "DescribeAsyncJobs",
        &[may("RequestIds", ids(1, 100)), may("NextToken", SOME), may("MaxResults", Int(1, 100))],
    ),
    read("DescribeQuota", &[]),
    write("SetLoadBalancerSecurityGroups", &[LB, may("SecurityGroups", ids(0, 50))]),
    write("ReplaceCertForLoadBalancers", &[must("OldCertificateId", ID), must("Certificate", CERTIFICATE)]),
];

const WEIGHTS: Kind = Object(&[
    LISTENER,
    must("Targets", List(&TARGET, 1, 50)),
    may("LocationId", ID),
    may("Domain", Text(1, 80)),
    may("Url", Text(1, 200)),
    may("Weight", WEIGHT),
]);

const WEIGHTS_OF_ONE: &[Field] = &[
    LB,
    LISTENER,
    must("Targets", List(&TARGET, 1, 20)),
    may("LocationId", ID),
    may("Domain", Text(1, 80)),
    may("Url", Text(1, 200)),
    may("Weight", WEIGHT),
];

const CREATE_LB: &[Field] = &[
    must("LoadBalancerType", OneOf(&["OPEN", "INTERNAL"])),
    may("Forward", Int(1, 1)),
    may("LoadBalancerName", NAME),
    may("VpcId", ID),
    may("SubnetId", ID),
    may("ProjectId", Int(0, i64::MAX)),
    may("AddressIPVersion", SOME),
    may("Number", Int(1, 20)),
    may("MasterZoneId", SOME),
    may("ZoneId", SOME),
    may("InternetAccessible", INTERNET),
    may("VipIsp", OneOf(&["BGP", "CMCC", "CTCC", "CUCC"])),
    may("Tags", List(&TAG, 0, 20)),
    may("Vip", Text(1, 64)),
    may("BandwidthPackageId", ID),
    may("ExclusiveCluster", Any),
    may("SlaType", SOME),
    may("ClusterIds", ids(0, 20)),
    may("ClientToken", Text(1, 64)),
    may("SnatPro", Bool),
    may("SnatIps", Any),
    may("ClusterTag", SOME),
    may("SlaveZoneId", SOME),
    may("EipAddressId", ID),
    may("LoadBalancerPassToTarget", Bool),
    may("DynamicVip", Bool),
    may("Egress", SOME),
    may("LBChargePrepaid", Any),
    may("LBChargeType", OneOf(&["POSTPAID_BY_HOUR", "PREPAID"])),
    may("AccessLogTopicId", SOME),
    may("AdvancedRoute", Bool),
    may("AvailableZoneAffinityInfo", Any),
];

const DESCRIBE_LBS: &[Field] = &[
    may("LoadBalancerIds", ids(1, 20)),
    may("LoadBalancerType", OneOf(&["OPEN", "INTERNAL"])),
    may("Forward", SWITCH),
    may("LoadBalancerName", SOME),
    may("Domain", SOME),
    may("LoadBalancerVips", ids(1, 100)),
    may("BackendPublicIps", ids(1, 100)),
    may("BackendPrivateIps", ids(1, 100)),
    may("Offset", Int(0, i64::MAX)),
    may("Limit", Int(1, 100)),
    may("OrderBy", OneOf(&["LoadBalancerName", "CreateTime", "Domain", "LoadBalancerType"])),
    may("OrderType", SWITCH),
    may("SearchKey", SOME),
    may("ProjectId", Int(0, i64::MAX)),
    may("WithRs", Int(-1, 1)),
    may("VpcId", ID),
    may("SecurityGroup", ID),
    may("MasterZone", SOME),
    may("Filters", List(&FILTER, 1, 10)),
    may("AdditionalFields", List(&OneOf(&["TargetCount"]), 1, 1)),
];

const MODIFY_LB: &[Field] = &[
    LB,
    may("LoadBalancerName", NAME),
    may("TargetRegionInfo", Any),
    may("InternetChargeInfo", INTERNET),
    may("LoadBalancerPassToTarget", Bool),
    may("SwitchFlag", Int(0, 2)),
    may("SnatPro", Bool),
    may("DeleteProtect", Bool),
    may("ModifyClassicDomain", Bool),
    may("AssociateEndpoint", SOME),
];

const CREATE_LISTENER: &[Field] = &[
    LB,
    must("Ports", List(&PORT, 1, 50)),
    must("Protocol", PROTOCOL),
    may("ListenerNames", List(&NAME, 1, 50)),
    may("HealthCheck", HEALTH),
    may("Certificate", CERTIFICATE),
    // 0, or from 30 on.
    may("SessionExpireTime", Int(0, 3_600)),
    may("Scheduler", OneOf(&["WRR", "LEAST_CONN"])),
    may("SniSwitch", SWITCH),
    may("TargetType", TARGET_TYPE),
    may("SessionType", SESSION_TYPE),
    may("KeepaliveEnable", SWITCH),
    may("EndPort", Int(2, 65_535)),
    may("DeregisterTargetRst", Bool),
    may("MultiCertInfo", CERTIFICATES),
    may("MaxConn", Int(-1, i64::MAX)),
    may("MaxCps", Int(-1, i64::MAX)),
    may("IdleConnectTimeout", Int(10, 1_980)),
    may("ProxyProtocol", Bool),
    may("SnatEnable", Bool),
    may("FullEndPorts", Any),
    may("H2cSwitch", Bool),
    may("SslCloseSwitch", Bool),
    may("DataCompressMode", OneOf(&["transparent", "compatibility"])),
    may("RescheduleTargetZeroWeight", Bool),
    may("RescheduleUnhealthy", Bool),
    may("RescheduleExpandTarget", Bool),
    may("RescheduleStartTime", Int(0, 3_600)),
    may("RescheduleInterval", Int(0, 3_600)),
];

const MODIFY_LISTENER: &[Field] = &[
    LB,
    LISTENER,
    may("ListenerName", NAME),
    may("SessionExpireTime", Int(0, 3_600)),
    may("HealthCheck", HEALTH),
    may("Certificate", CERTIFICATE),
    may("Scheduler", SCHEDULER),
    may("SniSwitch", SWITCH),
    may("TargetType", TARGET_TYPE),
    may("KeepaliveEnable", SWITCH),
    may("DeregisterTargetRst", Bool),
    may("SessionType", SESSION_TYPE),
    may("MultiCertInfo", CERTIFICATES),
    may("MaxConn", Int(-1, i64::MAX)),
    may("MaxCps", Int(-1, i64::MAX)),
    may("IdleConnectTimeout", Int(10, 1_980)),
    may("ProxyProtocol", Bool),
    may("SnatEnable", Bool),
    may("DataCompressMode", OneOf(&["transparent", "compatibility"])),
    may("RescheduleTargetZeroWeight", Bool),
    may("RescheduleUnhealthy", Bool),
    may("RescheduleExpandTarget", Bool),
    may("RescheduleStartTime", Int(0, 3_600)),
    may("RescheduleInterval", Int(0, 3_600)),
];

const MODIFY_RULE: &[Field] = &[
    LB,
    LISTENER,
    must("LocationId", ID),
    may("Url", Text(1, 200)),
    may("HealthCheck", HEALTH),
    may("Scheduler", SCHEDULER),
    may("SessionExpireTime", Int(0, 86_400)),
    may("ForwardType", OneOf(&["HTTP", "HTTPS", "GRPC", "GRPCS"])),
    may("OAuth", Any),
    may("CookieName", NAME),
];

const MODIFY_DOMAIN: &[Field] = &[
    LB,
    LISTENER,
    must("Domain", Text(1, 80)),
    may("NewDomain", Text(1, 80)),
    may("NewDomains", List(&Text(1, 80), 1, 20)),
    may("Certificate", CERTIFICATE),
    may("MultiCertInfo", CERTIFICATES),
    may("Http2", Bool),
    may("DefaultServer", Bool),
    may("Quic", Bool),
    may("NewDefaultServerDomain", Text(1, 80)),
];
