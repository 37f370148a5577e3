//! What comes before an action.

use std::time::Duration;

use e2e::tencent::{Emulator, Faults, Settings};
use serde_json::json;

use crate::{Client, ID, KEY, seconds};

#[tokio::test(start_paused = true)]
async fn signatures_are_checked() {
    let mut client = Client::new(Settings::default());
    client.ok("DescribeQuota", json!({})).await;

    client.key = "another";
    client.refused("AuthFailure.SignatureFailure", "DescribeQuota", json!({})).await;
    (client.key, client.id) = (KEY, "AKIDnobody");
    client.refused("AuthFailure.SecretIdNotFound", "DescribeQuota", json!({})).await;
    client.id = ID;

    for (ahead, fits) in [(-299, true), (-302, false), (299, true), (302, false)] {
        client.ahead = ahead;
        match fits {
            true => drop(client.ok("DescribeQuota", json!({})).await),
            false => client.refused("AuthFailure.SignatureExpire", "DescribeQuota", json!({})).await,
        }
    }
    client.ahead = 0;

    let mut headers = client.headers("DescribeQuota", b"{}");
    let (_, reply) = client.send(&headers, b"{ }").await;
    assert_eq!(reply["Response"]["Error"]["Code"], "AuthFailure.SignatureFailure", "the body is signed");
    headers.insert("host", "elsewhere".parse().unwrap());
    let (_, reply) = client.send(&headers, b"{}").await;
    assert_eq!(reply["Response"]["Error"]["Code"], "AuthFailure.SignatureFailure", "the host is signed");
    headers.remove("authorization");
    let (_, reply) = client.send(&headers, b"{}").await;
    assert_eq!(reply["Response"]["Error"]["Code"], "AuthFailure.InvalidAuthorization");
}

#[tokio::test(start_paused = true)]
async fn headers_and_names_are_checked() {
    let client = Client::new(Settings::default());
    for (name, value, code) in [
        ("x-tc-version", "2017-03-12", "NoSuchVersion"),
        ("x-tc-action", "DescribeMoon", "InvalidAction"),
        ("x-tc-region", "ap-moon", "UnsupportedRegion"),
    ] {
        let mut headers = client.headers("DescribeQuota", b"{}");
        headers.insert(name, value.parse().unwrap());
        let (status, reply) = client.send(&headers, b"{}").await;
        assert_eq!((status, reply["Response"]["Error"]["Code"].as_str()), (200, Some(code)));
        assert!(reply["Response"]["RequestId"].is_string());
    }
    client.refused("UnknownParameter", "DescribeQuota", json!({"Moon": 1})).await;
    client.refused("MissingParameter", "DescribeTargets", json!({})).await;
    client.refused("InvalidParameter", "DescribeTargets", json!({"LoadBalancerId": 5})).await;
    let many: Vec<String> = (0..21).map(|n| format!("lb-{n}")).collect();
    let params = json!({"LoadBalancerIds": many});
    client.refused("InvalidParameterValue.Length", "DescribeLoadBalancers", params).await;
    client.refused("InvalidParameterValue.Range", "DescribeLoadBalancers", json!({"Limit": 101})).await;
}

#[tokio::test(start_paused = true)]
async fn a_user_without_permission_may_do_nothing() {
    let client = Client::new(Settings { denied: vec![ID.to_owned()], ..Settings::default() });
    client.refused("UnauthorizedOperation", "DescribeQuota", json!({})).await;
    client.cloud.replace_keys(vec![(ID.to_owned(), KEY.to_owned())], Vec::new());
    client.ok("DescribeQuota", json!({})).await;
}

#[tokio::test(start_paused = true)]
async fn each_action_has_its_rate() {
    let client = Client::new(Settings { rate: 5, latency: Duration::ZERO, ..Settings::default() });
    for _ in 0..5 {
        client.ok("DescribeQuota", json!({})).await;
    }
    client.refused("RequestLimitExceeded", "DescribeQuota", json!({})).await;
    client.ok("DescribeLoadBalancers", json!({})).await;
    tokio::time::sleep(Duration::from_millis(201)).await;
    client.ok("DescribeQuota", json!({})).await;
    client.refused("RequestLimitExceeded", "DescribeQuota", json!({})).await;
    let outcomes: Vec<String> = client.cloud.ledger().into_iter().map(|c| c.outcome).collect();
    assert_eq!(outcomes.iter().filter(|o| *o == "OK").count(), 7);
    assert_eq!(outcomes.iter().filter(|o| *o == "RequestLimitExceeded").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_effect_halfway() {
    let client = Client::new(Settings { latency: seconds(2), ..Settings::default() });
    let params = json!({"LoadBalancerType": "OPEN"});
    let call = client.call("CreateLoadBalancer", params.clone());
    assert!(tokio::time::timeout(Duration::from_millis(900), call).await.is_err());
    assert_eq!(client.cloud.dump()["LoadBalancers"], json!({}), "given up too early to have an effect");
    let call = client.call("CreateLoadBalancer", params);
    assert!(tokio::time::timeout(Duration::from_millis(1_100), call).await.is_err());
    assert_eq!(client.cloud.dump()["LoadBalancers"].as_object().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn faults_happen_until_they_end() {
    let always = |faults: Faults| Settings { faults, ..Settings::default() };
    let client = Client::new(always(Faults { throttle: 1.0, until: Some(seconds(10)), ..Faults::default() }));
    client.refused("RequestLimitExceeded", "DescribeQuota", json!({})).await;
    tokio::time::sleep(seconds(10)).await;
    client.ok("DescribeQuota", json!({})).await;

    let client = Client::new(always(Faults { internal_error: 1.0, ..Faults::default() }));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        seen.insert(client.call("CreateLoadBalancer", json!({"LoadBalancerType": "OPEN"})).await.unwrap_err());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["503", "InternalError"]);
    assert_eq!(client.cloud.dump()["LoadBalancers"], json!({}));

    let client = Client::new(always(Faults { reply_lost_after_commit: 1.0, ..Faults::default() }));
    client.refused("504", "CreateLoadBalancer", json!({"LoadBalancerType": "OPEN"})).await;
    assert_eq!(client.cloud.dump()["LoadBalancers"].as_object().unwrap().len(), 1);
    assert_eq!(client.cloud.ledger()[0].outcome, "ReplyLost");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_world() {
    let mut dumps = Vec::new();
    for _ in 0..2 {
        let client = Client::new(Settings { seed: 7, ..Settings::default() });
        let lb = client.balancer().await;
        client.listeners(&lb, &[80, 443]).await;
        dumps.push(client.cloud.dump().to_string());
    }
    assert_eq!(dumps[0], dumps[1]);
}

#[test]
fn every_action_has_a_name_of_its_own() {
    let all: std::collections::BTreeSet<_> = Emulator::ACTIONS.iter().collect();
    assert_eq!(all.len(), 29);
}
