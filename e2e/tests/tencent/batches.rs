//! Batches of targets, and how they fail in part.

use e2e::tencent::{Faults, Settings};
use serde_json::{Value, json};

use crate::{Client, target};

#[tokio::test(start_paused = true)]
async fn a_refused_address_fails_its_listener_alone() {
    let client = Client::new(Settings::default());
    let lb = client.balancer().await;
    let l = client.listeners(&lb, &[80, 81]).await;
    client.cloud.set_refused_address("10.1.0.9", true);
    let targets = [target(&l[0], "10.1.0.1"), target(&l[0], "10.1.0.9"), target(&l[1], "10.1.0.1")];
    let params = json!({"LoadBalancerId": lb, "Targets": targets});
    let reply = client.done("BatchRegisterTargets", params.clone()).await;
    assert_eq!(reply["FailListenerIdSet"], json!([l[0]]));
    assert!(reply["Message"].as_str().unwrap().contains("10.1.0.9"));
    assert!(client.bound(&lb, &l[0]).await.is_empty());
    assert_eq!(client.bound(&lb, &l[1]).await, ["10.1.0.1"]);
    let call = client.cloud.ledger().into_iter().find(|c| c.action == "BatchRegisterTargets").unwrap();
    assert_eq!((call.items, call.outcome.as_str(), call.load_balancer), (3, "PartialFailure", Some(lb.clone())));

    client.cloud.set_refused_address("10.1.0.9", false);
    let reply = client.done("BatchRegisterTargets", params).await;
    assert_eq!(reply["FailListenerIdSet"], json!([]), "what is bound already is no failure");
    assert_eq!(client.bound(&lb, &l[0]).await, ["10.1.0.1", "10.1.0.9"]);
    assert_eq!(client.bound(&lb, &l[1]).await, ["10.1.0.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_part_may_fail_by_a_fault() {
    let client = Client::new(Settings::default());
    let lb = client.balancer().await;
    let l = client.listeners(&lb, &[80]).await;
    client.cloud.set_faults(Faults { partial_failure: 1.0, ..Faults::default() });
    let params = json!({"LoadBalancerId": lb, "Targets": [target(&l[0], "10.1.0.1")]});
    let reply = client.done("BatchRegisterTargets", params).await;
    assert_eq!(reply["FailListenerIdSet"], json!([l[0]]));
    assert!(client.bound(&lb, &l[0]).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn batches_have_limits() {
    let client = Client::new(Settings::default());
    let lb = client.balancer().await;
    let l = client.listeners(&lb, &[80]).await;
    let many = |n: usize| (0..n).map(|i| target(&l[0], &format!("10.1.{}.{}", i / 250, i % 250))).collect::<Vec<_>>();
    let batch = |targets: Vec<Value>| json!({"LoadBalancerId": lb, "Targets": targets});
    client.refused("InvalidParameterValue.Length", "BatchRegisterTargets", batch(many(501))).await;
    client.refused("InvalidParameterValue.Length", "BatchRegisterTargets", batch(vec![])).await;
    let reply = client.done("BatchRegisterTargets", batch(many(201))).await;
    assert_eq!(reply["FailListenerIdSet"], json!([l[0]]));
    assert!(reply["Message"].as_str().unwrap().contains("LimitExceeded"));
    client.done("BatchRegisterTargets", batch(many(200))).await;
    assert_eq!(client.bound(&lb, &l[0]).await.len(), 200);

    let twice = batch(vec![target(&l[0], "10.9.0.1"), target(&l[0], "10.9.0.1")]);
    client.refused("InvalidParameterValue.Duplicate", "BatchRegisterTargets", twice).await;
    let unknown = batch(vec![target("lbl-unknown0", "10.9.0.1")]);
    client.refused("InvalidParameter.ListenerIdNotFound", "BatchRegisterTargets", unknown).await;
    let mut both = target(&l[0], "10.9.0.1");
    both["InstanceId"] = json!("ins-1");
    client.refused("InvalidParameterCombination", "BatchRegisterTargets", batch(vec![both])).await;
}

#[tokio::test(start_paused = true)]
async fn unbinding_what_is_not_bound_fails_unless_told_otherwise() {
    for strict in [true, false] {
        let client = Client::new(Settings { strict_deregister: strict, ..Settings::default() });
        let lb = client.balancer().await;
        let l = client.listeners(&lb, &[80]).await;
        let params = json!({"LoadBalancerId": lb, "Targets": [target(&l[0], "10.1.0.1")]});
        client.done("BatchRegisterTargets", params.clone()).await;
        client.done("BatchDeregisterTargets", params.clone()).await;
        assert!(client.bound(&lb, &l[0]).await.is_empty());
        let reply = client.done("BatchDeregisterTargets", params).await;
        assert_eq!(reply["FailListenerIdSet"].as_array().unwrap().len(), usize::from(strict));
    }
}

#[tokio::test(start_paused = true)]
async fn weights_change_all_or_none() {
    let client = Client::new(Settings::default());
    let lb = client.balancer().await;
    let l = client.listeners(&lb, &[80]).await;
    let targets = [target(&l[0], "10.1.0.1"), target(&l[0], "10.1.0.2")];
    client.done("BatchRegisterTargets", json!({"LoadBalancerId": lb, "Targets": targets})).await;
    let weights = |ips: &[&str]| {
        let targets: Vec<Value> = ips.iter().map(|ip| json!({"EniIp": ip, "Port": 8080})).collect();
        json!({"LoadBalancerId": lb, "ModifyList": [{"ListenerId": l[0], "Targets": targets, "Weight": 0}]})
    };
    let shown = async || {
        let reply = client.ok("DescribeTargets", json!({"LoadBalancerId": lb})).await;
        let targets = reply["Listeners"][0]["Targets"].as_array().unwrap().clone();
        targets.iter().map(|t| t["Weight"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    client.refused("InvalidParameter", "BatchModifyTargetWeight", weights(&["10.1.0.1", "10.1.0.3"])).await;
    assert_eq!(shown().await, [10, 10]);
    client.done("BatchModifyTargetWeight", weights(&["10.1.0.1"])).await;
    assert_eq!(shown().await, [0, 10]);

    let one = |weight: i64| {
        let target = json!({"EniIp": "10.1.0.2", "Port": 8080, "Weight": weight});
        json!({"LoadBalancerId": lb, "ListenerId": l[0], "Targets": [target]})
    };
    client.done("ModifyTargetWeight", one(3)).await;
    assert_eq!(shown().await, [0, 3]);
    client.refused("InvalidParameterValue.Range", "ModifyTargetWeight", one(101)).await;
    let many: Vec<Value> = (0..21).map(|i| json!({"EniIp": format!("10.1.1.{i}"), "Port": 1})).collect();
    let params = json!({"LoadBalancerId": lb, "ListenerId": l[0], "Targets": many});
    client.refused("InvalidParameterValue.Length", "RegisterTargets", params).await;
}
