//! Clusters of Baidu's CCE: the network mode, masquerading, and the cluster's kind.
//!
//! The mode and the cluster's id are in ConfigMap `kube-system/cce-cni-node-agent`, which CCE's network plugin reads.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Facts, Finding};

const NETWORK: &str = "pod-network";
const MASQUERADE: &str = "masquerade";
const CLUSTER: &str = "cluster-id";
/// What must not be masqueraded for the load balancer to see Pods' own addresses.
const KEYS: [&str; 2] = ["masqOutBound", "masqOutBoundIPv6"];

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(data) = &facts.cce_network else { return Vec::new() };
    let config = match yaml(data) {
        Ok(config) => config,
        Err(why) => {
            let what = format!("ConfigMap kube-system/cce-cni-node-agent cannot be read: {why}");
            return vec![Finding::failed(NETWORK, what, "restore the ConfigMap: CCE's network plugin needs it too")];
        }
    };
    let mut out = vec![cluster_id(config["cce"]["clusterID"].as_str())];
    match config["cniMode"].as_str() {
        Some(mode @ ("kubenet" | "vpc-route-veth")) => {
            out.push(Finding::ok(
                NETWORK,
                format!("CCE network mode {mode}: the load balancer reaches Pods by the VPC's routes"),
            ));
        }
        Some(mode) if mode.contains("secondary-ip") => {
            out.push(Finding::ok(NETWORK, format!("CCE network mode {mode}: Pods have addresses of the VPC")));
        }
        Some(mode @ ("vpc-route-ipvlan" | "vpc-route-auto-detect")) => {
            // Which of the two it is depends on each node's kernel: the stricter one counts.
            out.push(Finding::ok(
                NETWORK,
                format!("CCE network mode {mode}: Pods are reached if nothing is masqueraded"),
            ));
            out.extend(masquerade(facts.masquerade.as_ref()));
        }
        Some(mode) => out.push(Finding::warning(
            NETWORK,
            format!("CCE network mode {mode} is not known here"),
            "make sure that the load balancer reaches Pods by their addresses",
        )),
        None => out.push(Finding::failed(
            NETWORK,
            "ConfigMap kube-system/cce-cni-node-agent has no cniMode",
            "restore the ConfigMap: CCE's network plugin needs it too",
        )),
    }
    out
}

fn cluster_id(id: Option<&str>) -> Finding {
    match id {
        Some(id) if id.starts_with("cce-") => {
            Finding::ok(CLUSTER, format!("cluster {id} is of CCE's second generation"))
        }
        Some(id) if id.starts_with("c-") => Finding::failed(
            CLUSTER,
            format!("cluster {id} is of CCE's first generation, whose Pods a load balancer cannot reach"),
            "use a cluster whose id begins with cce-",
        ),
        Some(id) => Finding::warning(
            CLUSTER,
            format!("cluster id \"{id}\" begins neither with cce- nor with c-"),
            "make sure that it is a cluster of CCE's second generation",
        ),
        None => Finding::warning(
            CLUSTER,
            "ConfigMap kube-system/cce-cni-node-agent names no cluster",
            "make sure that the cluster's id begins with cce-",
        ),
    }
}

fn masquerade(data: Option<&BTreeMap<String, String>>) -> Vec<Finding> {
    let wanted = "kubectl -n kube-system edit configmap cce-ip-masq-agent: set masqOutBound: false and \
                  masqOutBoundIPv6: false";
    let Some(data) = data else {
        let what = "there is no ConfigMap kube-system/cce-ip-masq-agent, and what Pods send is masqueraded by default";
        return vec![Finding::failed(
            MASQUERADE,
            what,
            "create it, with masqOutBound: false and masqOutBoundIPv6: false under its key config",
        )];
    };
    let config = match yaml(data) {
        Ok(config) => config,
        Err(why) => {
            let what = format!("ConfigMap kube-system/cce-ip-masq-agent cannot be read: {why}");
            return vec![Finding::failed(MASQUERADE, what, wanted)];
        }
    };
    let wrong: Vec<String> = KEYS
        .iter()
        .filter_map(|key| match &config[*key] {
            Value::Bool(false) => None,
            Value::Null => Some(format!("{key} is missing")),
            Value::String(text) if text == "false" => {
                Some(format!("{key} is the text \"false\", and must be the boolean"))
            }
            other => Some(format!("{key} is {other}")),
        })
        .collect();
    if wrong.is_empty() {
        return vec![Finding::ok(MASQUERADE, "what Pods send is not masqueraded")];
    }
    let what = format!(
        "ConfigMap kube-system/cce-ip-masq-agent: {}: answers would not come from the Pods' addresses",
        wrong.join(", ")
    );
    vec![Finding::failed(MASQUERADE, what, wanted)]
}

/// The YAML under key `config`, or under the only key that there is.
fn yaml(data: &BTreeMap<String, String>) -> Result<Value, String> {
    let text = match (data.get("config"), data.len()) {
        (Some(text), _) => text,
        (None, 1) => data.values().next().ok_or("it is empty")?,
        (None, 0) => return Err("it is empty".into()),
        (None, _) => {
            let keys: Vec<&str> = data.keys().map(String::as_str).collect();
            return Err(format!("it has no key config, but {}", keys.join(", ")));
        }
    };
    let value: Value = serde_saphyr::from_str(text)
        .map_err(|e| format!("no YAML: {}", e.to_string().lines().next().unwrap_or_default()))?;
    if value.is_object() { Ok(value) } else { Err("its YAML holds no keys".into()) }
}
