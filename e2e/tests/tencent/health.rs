//! When targets are healthy.

use std::time::Duration;

use e2e::tencent::{HealthSource, Settings};
use serde_json::{Value, json};

use crate::{Client, seconds, target};

async fn detail(client: &Client, lb: &str) -> Vec<Value> {
    let reply = client.ok("DescribeTargetHealth", json!({"LoadBalancerIds": [lb]})).await;
    let targets = reply["LoadBalancers"][0]["Listeners"][0]["Rules"][0]["Targets"].as_array().unwrap().clone();
    targets.into_iter().map(|t| t["HealthStatusDetail"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_target_is_unknown_until_it_was_checked_often_enough() {
    let client = Client::new(Settings { health: HealthSource::Table, ..Settings::default() });
    let lb = client.balancer().await;
    let check = json!({"HealthNum": 2, "IntervalTime": 10});
    let params = json!({"LoadBalancerId": lb, "Ports": [80], "Protocol": "TCP", "HealthCheck": check});
    let listener = client.done("CreateListener", params).await["ListenerIds"][0].as_str().unwrap().to_owned();
    client.cloud.set_health("10.1.0.1", 8080, true);
    let mut zero = target(&listener, "10.1.0.2");
    zero["Weight"] = json!(0);
    let params = json!({"LoadBalancerId": lb, "Targets": [target(&listener, "10.1.0.1"), zero]});
    client.done("BatchRegisterTargets", params).await;
    assert_eq!(detail(&client, &lb).await, ["Unknown", "Unknown"]);
    tokio::time::sleep(seconds(18)).await;
    assert_eq!(detail(&client, &lb).await, ["Unknown", "Unknown"]);
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(detail(&client, &lb).await, ["Alive", "Dead"]);
    client.cloud.set_health("10.1.0.2", 8080, true);
    assert_eq!(detail(&client, &lb).await, ["Alive", "Alive"], "of weight 0, but well");
    let off = json!({"LoadBalancerId": lb, "ListenerId": listener, "HealthCheck": {"HealthSwitch": 0}});
    client.done("ModifyListener", off).await;
    assert_eq!(detail(&client, &lb).await, ["Close", "Close"]);
}

#[tokio::test]
async fn health_may_be_that_of_connections() {
    let listening = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listening.local_addr().unwrap().port();
    let short = Duration::from_millis(10);
    let settings = Settings { health: HealthSource::Connect, latency: short, task: short, ..Settings::default() };
    let client = Client::new(settings);
    let lb = client.balancer().await;
    let params = json!({"LoadBalancerId": lb, "Ports": [80], "Protocol": "TCP",
        "HealthCheck": {"HealthNum": 2, "IntervalTime": 3}});
    let listener = client.done("CreateListener", params).await["ListenerIds"][0].as_str().unwrap().to_owned();
    // Nothing listens on port 1.
    let targets = [
        json!({"ListenerId": listener, "EniIp": "127.0.0.1", "Port": port}),
        json!({"ListenerId": listener, "EniIp": "127.0.0.1", "Port": 1}),
    ];
    client.done("BatchRegisterTargets", json!({"LoadBalancerId": lb, "Targets": targets})).await;
    assert_eq!(detail(&client, &lb).await, ["Unknown", "Unknown"]);
    tokio::time::sleep(seconds(6)).await;
    assert_eq!(detail(&client, &lb).await, ["Alive", "Dead"]);
}
