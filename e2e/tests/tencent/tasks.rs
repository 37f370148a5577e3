//! Tasks: what they exclude, and when their effects come.

use e2e::tencent::{Faults, Settings};
use serde_json::json;

use crate::{Client, seconds, target};

#[tokio::test(start_paused = true)]
async fn a_load_balancer_is_created_by_a_task() {
    let client = Client::new(Settings::default());
    let reply = client.ok("CreateLoadBalancer", json!({"LoadBalancerType": "OPEN"})).await;
    let id = &reply["LoadBalancerIds"][0];
    let show = async || client.ok("DescribeLoadBalancers", json!({"LoadBalancerIds": [id]})).await;
    assert_eq!(show().await["LoadBalancerSet"][0]["Status"], 0);
    let task = client.ok("DescribeTaskStatus", json!({"DealName": reply["DealName"]})).await;
    assert_eq!((&task["Status"], &task["LoadBalancerIds"][0]), (&json!(2), id));
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(show().await["LoadBalancerSet"][0]["Status"], 1);
    let jobs = client.ok("DescribeAsyncJobs", json!({"RequestIds": [reply["RequestId"]]})).await;
    assert_eq!(jobs["Jobs"][0]["Status"], "Succeeded");
    client.refused("ResourceNotFound", "DescribeTaskStatus", json!({"TaskId": "none"})).await;
}

#[tokio::test(start_paused = true)]
async fn one_write_at_a_time_for_each_load_balancer() {
    let client = Client::new(Settings { task: seconds(5), ..Settings::default() });
    let (one, two) = (client.balancer().await, client.balancer().await);
    let listener = |lb: &str, port: u16| json!({"LoadBalancerId": lb, "Ports": [port], "Protocol": "TCP"});
    client.ok("CreateListener", listener(&one, 80)).await;
    client.refused("FailedOperation.ResourceInOperating", "CreateListener", listener(&one, 81)).await;
    client.ok("CreateListener", listener(&two, 80)).await;
    let listeners = client.ok("DescribeListeners", json!({"LoadBalancerId": one})).await;
    assert_eq!(listeners["TotalCount"], 0, "the effect comes when the task ends");
    tokio::time::sleep(seconds(5)).await;
    let listeners = client.ok("DescribeListeners", json!({"LoadBalancerId": one})).await;
    assert_eq!(listeners["TotalCount"], 1);
    client.ok("CreateListener", listener(&one, 81)).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_has_no_effect() {
    let client = Client::new(Settings::default());
    let lb = client.balancer().await;
    client.cloud.set_faults(Faults { task_failed: 1.0, ..Faults::default() });
    let params = json!({"LoadBalancerId": lb, "Ports": [80], "Protocol": "TCP"});
    let reply = client.ok("CreateListener", params).await;
    tokio::time::sleep(seconds(2)).await;
    let task = client.ok("DescribeTaskStatus", json!({"TaskId": reply["RequestId"]})).await;
    assert_eq!(task["Status"], 1);
    let listeners = client.ok("DescribeListeners", json!({"LoadBalancerId": lb})).await;
    assert_eq!(listeners["TotalCount"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_task_keeps_others_out() {
    let client = Client::new(Settings { stuck: seconds(60), ..Settings::default() });
    let lb = client.balancer().await;
    client.cloud.set_faults(Faults { task_stuck: 1.0, ..Faults::default() });
    let params = |port: u16| json!({"LoadBalancerId": lb, "Ports": [port], "Protocol": "TCP"});
    client.ok("CreateListener", params(80)).await;
    tokio::time::sleep(seconds(30)).await;
    client.refused("FailedOperation.ResourceInOperating", "CreateListener", params(81)).await;
    tokio::time::sleep(seconds(31)).await;
    client.ok("CreateListener", params(81)).await;
}

#[tokio::test(start_paused = true)]
async fn what_another_user_does_meanwhile_stays() {
    let client = Client::new(Settings { task: seconds(5), ..Settings::default() });
    let lb = client.balancer().await;
    let listener = client.listeners(&lb, &[80]).await.remove(0);
    let batch = |ip: &str| json!({"LoadBalancerId": lb, "Targets": [target(&listener, ip)]});
    client.ok("BatchRegisterTargets", batch("10.1.0.1")).await;
    client.cloud.plain("BatchRegisterTargets", batch("10.1.0.2")).unwrap();
    assert_eq!(client.bound(&lb, &listener).await, ["10.1.0.2"]);
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(client.bound(&lb, &listener).await, ["10.1.0.2", "10.1.0.1"]);

    client.ok("BatchRegisterTargets", batch("10.1.0.3")).await;
    client.cloud.plain("DeleteLoadBalancer", json!({"LoadBalancerIds": [lb]})).unwrap();
    tokio::time::sleep(seconds(5)).await;
    client.refused("InvalidParameter.LBIdNotFound", "DescribeTargets", json!({"LoadBalancerId": lb})).await;
    assert!(client.cloud.ledger().iter().all(|c| c.action != "DeleteLoadBalancer"));
}

#[tokio::test(start_paused = true)]
async fn describes_may_lag() {
    let client = Client::new(Settings { consistency: seconds(10), rate: 1_000, ..Settings::default() });
    let lb = client.balancer().await;
    tokio::time::sleep(seconds(20)).await;
    client.listeners(&lb, &[80]).await;
    let mut seen = [0, 0];
    for _ in 0..50 {
        let reply = client.ok("DescribeListeners", json!({"LoadBalancerId": lb})).await;
        seen[usize::try_from(reply["TotalCount"].as_u64().unwrap()).unwrap()] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    tokio::time::sleep(seconds(11)).await;
    for _ in 0..20 {
        let reply = client.ok("DescribeListeners", json!({"LoadBalancerId": lb})).await;
        assert_eq!(reply["TotalCount"], 1);
    }
}
