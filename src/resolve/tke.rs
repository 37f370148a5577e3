//! Which network of TKE a Pod is on, by the annotations that TKE's CNI plugins go by.
//!
//! A CLB reaches a Pod by an address of its VPC, which a network interface of the VPC (ENI) gives. A Pod may be on several
//! networks: then its first address, the one in its status, may be one that only the cluster knows.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde::Deserialize;

/// The networks that a Pod asks for, such as `tke-route-eni` or `tke-bridge,tke-route-eni`.
pub const NETWORKS: &str = "tke.cloud.tencent.com/networks";
/// The networks that it is on, with its addresses there: a list in JSON, which the CNI plugin writes.
pub const NETWORKS_STATUS: &str = "tke.cloud.tencent.com/networks-status";

#[derive(Deserialize)]
struct Network {
    name: String,
    #[serde(default)]
    ips: Vec<String>,
}

/// Whether a network gives addresses of the VPC: `tke-route-eni`, `tke-direct-eni`, `tke-sub-eni`.
fn of_vpc(network: &str) -> bool {
    network.contains("-eni")
}

fn on(pod: &Pod) -> Vec<Network> {
    let status = pod.annotations().get(NETWORKS_STATUS);
    // What cannot be read says nothing; the Pod's status still does.
    status.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The Pod's addresses on networks of the VPC, where the annotation tells them.
pub(crate) fn vpc_addresses(pod: &Pod) -> Vec<IpAddr> {
    let networks = on(pod);
    let of_vpc = networks.iter().filter(|n| of_vpc(&n.name));
    of_vpc.flat_map(|n| &n.ips).filter_map(|ip| ip.split('/').next()?.parse().ok()).collect()
}

/// What keeps a CLB from reaching the Pod, as far as its annotations tell.
#[must_use]
pub fn out_of_reach(pod: &Pod) -> Option<String> {
    let of_status: Vec<String> = on(pod).into_iter().map(|n| n.name).collect();
    let asked = pod.annotations().get(NETWORKS).map(String::as_str).unwrap_or_default();
    let asked = asked.split(',').map(|n| n.trim().to_owned()).filter(|n| !n.is_empty());
    let networks = if of_status.is_empty() { asked.collect() } else { of_status };
    if networks.is_empty() || networks.iter().any(|n| of_vpc(n)) {
        return None;
    }
    let name = pod.name_any();
    Some(format!(
        "Pod {name} is on network {}, whose addresses are not of the VPC: give it one that is (annotation {NETWORKS}: \
         tke-route-eni), or have the account allow targets of that network",
        networks.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(networks: Option<&str>, status: Option<&str>) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web-1".into());
        let annotations = [(NETWORKS, networks), (NETWORKS_STATUS, status)];
        let given = annotations.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned())));
        pod.metadata.annotations = Some(given.collect());
        pod
    }

    #[test]
    fn the_addresses_of_the_vpc_are_those_of_its_interfaces() {
        let both = r#"[{"name": "tke-bridge", "interface": "eth0", "ips": ["172.16.0.31"], "default": true, "dns": {}},
            {"name": "tke-route-eni", "interface": "eth1", "ips": ["10.0.96.7/20", "no address"]}]"#;
        assert_eq!(vpc_addresses(&pod(None, Some(both))), [IpAddr::from([10, 0, 96, 7])]);
        for other in [None, Some("no list"), Some("[]"), Some(r#"[{"name": "tke-bridge", "ips": ["172.16.0.31"]}]"#)] {
            assert!(vpc_addresses(&pod(Some("tke-route-eni"), other)).is_empty(), "{other:?}");
        }
    }

    #[test]
    fn a_pod_without_an_address_of_the_vpc_is_said_to_be_so() {
        let bridge = r#"[{"name": "tke-bridge", "ips": ["172.16.0.31"]}]"#;
        for (networks, status, reached) in [
            (None, None, true),
            (Some("tke-route-eni"), None, true),
            (Some("tke-direct-eni,flannel"), None, true),
            (Some(" tke-bridge "), None, false),
            (Some("tke-route-eni"), Some(bridge), false),
        ] {
            assert_eq!(out_of_reach(&pod(networks, status)).is_none(), reached, "{networks:?}");
        }
        assert!(
            out_of_reach(&pod(None, Some(bridge)))
                .is_some_and(|text| text.starts_with("Pod web-1 is on network tke-bridge"))
        );
    }
}
