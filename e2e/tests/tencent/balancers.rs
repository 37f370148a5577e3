//! Load balancers: created once, and not deleted by mistake.

use e2e::tencent::{Faults, Settings};
use serde_json::{Value, json};

use crate::{Client, seconds, target};

#[tokio::test(start_paused = true)]
async fn the_same_token_creates_once() {
    let client = Client::new(Settings::default());
    let params = |name: &str| json!({"LoadBalancerType": "OPEN", "LoadBalancerName": name, "ClientToken": "t-1"});
    let first = client.ok("CreateLoadBalancer", params("a")).await;
    let again = client.done("CreateLoadBalancer", params("a")).await;
    assert_eq!(first["LoadBalancerIds"], again["LoadBalancerIds"]);
    assert_ne!(first["RequestId"], again["RequestId"]);
    client.refused("InvalidParameter", "CreateLoadBalancer", params("b")).await;
    let all = client.ok("DescribeLoadBalancers", json!({})).await;
    assert_eq!(all["TotalCount"], 1);
    let long = json!({"LoadBalancerType": "OPEN", "ClientToken": "t".repeat(65)});
    client.refused("InvalidParameterValue.Length", "CreateLoadBalancer", long).await;

    client.cloud.set_faults(Faults { task_failed: 1.0, ..Faults::default() });
    let failing = json!({"LoadBalancerType": "OPEN", "ClientToken": "t-2"});
    client.ok("CreateLoadBalancer", failing.clone()).await;
    tokio::time::sleep(seconds(2)).await;
    client.refused("InvalidParameter.ClientTokenLimitExceeded", "CreateLoadBalancer", failing).await;
}

#[tokio::test(start_paused = true)]
async fn they_are_found_by_tag() {
    let client = Client::new(Settings::default());
    let tagged = |value: &str| json!({"LoadBalancerType": "OPEN", "Tags": [{"TagKey": "cluster", "TagValue": value}]});
    let one = client.ok("CreateLoadBalancer", tagged("one")).await;
    client.ok("CreateLoadBalancer", tagged("two")).await;
    client.ok("CreateLoadBalancer", json!({"LoadBalancerType": "OPEN"})).await;
    let by = |name: &str, value: &str| json!({"Filters": [{"Name": name, "Values": [value]}]});
    let found = client.ok("DescribeLoadBalancers", by("tag:cluster", "one")).await;
    assert_eq!(found["TotalCount"], 1);
    assert_eq!(found["LoadBalancerSet"][0]["LoadBalancerId"], one["LoadBalancerIds"][0]);
    let found = client.ok("DescribeLoadBalancers", by("tag-key", "cluster")).await;
    assert_eq!(found["TotalCount"], 2);
    client.refused("InvalidParameter.InvalidFilter", "DescribeLoadBalancers", by("moon", "x")).await;
    let page = client.ok("DescribeLoadBalancers", json!({"Limit": 2, "Offset": 2})).await;
    assert_eq!((page["TotalCount"].as_i64(), page["LoadBalancerSet"].as_array().unwrap().len()), (Some(3), 1));
}

#[tokio::test(start_paused = true)]
async fn there_are_not_more_than_the_quota() {
    let client = Client::new(Settings::default());
    client.cloud.set_quota("TOTAL_OPEN_CLB_QUOTA", 3);
    client.done("CreateLoadBalancer", json!({"LoadBalancerType": "OPEN", "Number": 2})).await;
    let params = json!({"LoadBalancerType": "OPEN", "Number": 2});
    client.refused("LimitExceeded", "CreateLoadBalancer", params).await;
    client.balancer().await;
    let set = client.ok("DescribeQuota", json!({})).await["QuotaSet"].clone();
    let open = set.as_array().unwrap().iter().find(|q| q["QuotaId"] == "TOTAL_OPEN_CLB_QUOTA").unwrap().clone();
    assert_eq!((open["QuotaCurrent"].as_i64(), open["QuotaLimit"].as_i64()), (Some(2), Some(3)));
}

#[tokio::test(start_paused = true)]
async fn internal_ones_need_a_network_that_exists() {
    let client = Client::new(Settings::default());
    client.refused("MissingParameter", "CreateLoadBalancer", json!({"LoadBalancerType": "INTERNAL"})).await;
    let params = json!({"LoadBalancerType": "INTERNAL", "VpcId": "vpc-moon", "SubnetId": "subnet-emulator"});
    client.refused("InvalidParameterValue", "CreateLoadBalancer", params).await;
    let params = json!({"LoadBalancerType": "INTERNAL", "VpcId": "vpc-emulator", "SubnetId": "subnet-emulator",
        "Vip": "10.0.0.9"});
    client.done("CreateLoadBalancer", params.clone()).await;
    client.refused("ResourceInUse", "CreateLoadBalancer", params).await;
}

#[tokio::test(start_paused = true)]
async fn deleting_has_guards() {
    let client = Client::new(Settings { rate: 100, ..Settings::default() });
    let lb = client.balancer().await;
    let l = client.listeners(&lb, &[80]).await;
    let delete = |force: bool| json!({"LoadBalancerIds": [lb], "ForceDelete": force});
    let targets: Vec<Value> = (0..20).map(|i| target(&l[0], &format!("10.1.0.{i}"))).collect();
    client.done("BatchRegisterTargets", json!({"LoadBalancerId": lb, "Targets": targets})).await;
    client.refused("FailedOperation.TargetNumCheckRisk", "DeleteLoadBalancer", delete(false)).await;
    let one = json!({"LoadBalancerId": lb, "Targets": [targets[0]]});
    client.done("BatchDeregisterTargets", one).await;
    client.cloud.set_traffic(&lb, 11.0);
    client.refused("FailedOperation.TrafficCheckRisk", "DeleteLoadBalancer", delete(false)).await;
    client.cloud.set_traffic(&lb, 0.0);
    let protect = |on: bool| json!({"LoadBalancerId": lb, "DeleteProtect": on});
    client.done("ModifyLoadBalancerAttributes", protect(true)).await;
    client.refused("OperationDenied", "DeleteLoadBalancer", delete(true)).await;
    client.done("ModifyLoadBalancerAttributes", protect(false)).await;
    client.done("DeleteLoadBalancer", delete(false)).await;
    client.refused("InvalidParameter.LBIdNotFound", "DeleteLoadBalancer", delete(false)).await;

    let mut ids = Vec::new();
    for _ in 0..30 {
        let reply = client.done("CreateLoadBalancer", json!({"LoadBalancerType": "OPEN"})).await;
        ids.push(reply["LoadBalancerIds"][0].clone());
    }
    tokio::time::sleep(seconds(300)).await;
    client.done("DeleteLoadBalancer", json!({"LoadBalancerIds": ids[..20]})).await;
    client.done("DeleteLoadBalancer", json!({"LoadBalancerIds": ids[20..29]})).await;
    client.done("DeleteLoadBalancer", json!({"LoadBalancerIds": ids[29..]})).await;
    let more = client.done("CreateLoadBalancer", json!({"LoadBalancerType": "OPEN"})).await["LoadBalancerIds"].clone();
    let params = json!({"LoadBalancerIds": more, "ForceDelete": true});
    client.refused("FailedOperation.FrequencyCheckRisk", "DeleteLoadBalancer", params.clone()).await;
    tokio::time::sleep(seconds(300)).await;
    client.done("DeleteLoadBalancer", params).await;
}
