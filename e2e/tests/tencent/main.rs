//! The emulator of Tencent's CLB, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod balancers;
mod batches;
mod control;
mod control_tests;
mod crash_tests;
mod gateway;
mod health;
mod in_process;
mod provider;
mod routing;
mod tasks;
mod trouble_tests;

use std::time::Duration;

use e2e::tencent::signature::Request;
use e2e::tencent::{Emulator, Settings};
use http::HeaderMap;
use serde_json::{Value, json};

const ID: &str = "AKIDemulator";
const KEY: &str = "emulator-secret";
const HOST: &str = "clb.tencentcloudapi.com";

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A client with a clock of its own.
struct Client {
    cloud: Emulator,
    id: &'static str,
    key: &'static str,
    begun: tokio::time::Instant,
    start: u64,
    /// By how much its clock is ahead, in seconds.
    ahead: i64,
}

impl Client {
    fn new(settings: Settings) -> Self {
        let start = settings.start;
        #[allow(clippy::disallowed_methods)] // The tests' own clock, which is paused.
        let begun = tokio::time::Instant::now();
        Self { cloud: Emulator::new(settings), id: ID, key: KEY, begun, start, ahead: 0 }
    }

    fn headers(&self, action: &str, body: &[u8]) -> HeaderMap {
        let timestamp = (self.start + self.begun.elapsed().as_secs()).saturating_add_signed(self.ahead);
        let signed = [("content-type", "application/json"), ("host", HOST)];
        let request = Request { service: "clb", timestamp, headers: &signed, body };
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json".to_owned()),
            ("host", HOST.to_owned()),
            ("x-tc-action", action.to_owned()),
            ("x-tc-version", "2018-03-17".to_owned()),
            ("x-tc-region", "ap-guangzhou".to_owned()),
            ("x-tc-timestamp", timestamp.to_string()),
            ("authorization", request.authorization(self.id, self.key)),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    /// Sends a request as it is.
    async fn send(&self, headers: &HeaderMap, body: &[u8]) -> (u16, Value) {
        let (status, reply) = self.cloud.handle(headers, body).await;
        let reply = if status == 200 { serde_json::from_slice(&reply).unwrap() } else { Value::Null };
        (status, reply)
    }

    /// Calls an action; gives what is in the envelope, or the error's code.
    async fn call(&self, action: &str, params: Value) -> Result<Value, String> {
        let body = params.to_string().into_bytes();
        let (status, reply) = self.send(&self.headers(action, &body), &body).await;
        if status != 200 {
            return Err(status.to_string());
        }
        match &reply["Response"]["Error"] {
            Value::Null => Ok(reply["Response"].clone()),
            error => Err(error["Code"].as_str().unwrap().to_owned()),
        }
    }

    /// Calls an action that must succeed.
    async fn ok(&self, action: &str, params: Value) -> Value {
        self.call(action, params.clone()).await.unwrap_or_else(|code| panic!("{action} {params}: {code}"))
    }

    /// Calls an action that must be refused with this code.
    async fn refused(&self, code: &str, action: &str, params: Value) {
        assert_eq!(self.call(action, params).await.expect_err(action), code);
    }

    /// Calls a write, and waits until its task has ended.
    async fn done(&self, action: &str, params: Value) -> Value {
        let reply = self.ok(action, params).await;
        for _ in 0..100 {
            let task = self.ok("DescribeTaskStatus", json!({"TaskId": reply["RequestId"]})).await;
            match task["Status"].as_i64() {
                Some(0) => return reply,
                Some(2) => tokio::time::sleep(Duration::from_millis(200)).await,
                _ => panic!("{action}: {task}"),
            }
        }
        panic!("{action}: still running");
    }

    /// A load balancer that is ready.
    async fn balancer(&self) -> String {
        let params = json!({"LoadBalancerType": "INTERNAL", "VpcId": "vpc-emulator", "SubnetId": "subnet-emulator"});
        text(&self.done("CreateLoadBalancer", params).await["LoadBalancerIds"][0])
    }

    /// Listeners for TCP on these ports.
    async fn listeners(&self, lb: &str, ports: &[u16]) -> Vec<String> {
        let params = json!({"LoadBalancerId": lb, "Ports": ports, "Protocol": "TCP"});
        self.done("CreateListener", params).await["ListenerIds"].as_array().unwrap().iter().map(text).collect()
    }

    /// The addresses that are bound to a listener of layer 4.
    async fn bound(&self, lb: &str, listener: &str) -> Vec<String> {
        let params = json!({"LoadBalancerId": lb, "ListenerIds": [listener]});
        let reply = self.ok("DescribeTargets", params).await;
        let targets = reply["Listeners"][0]["Targets"].as_array().unwrap().clone();
        targets.iter().map(|t| text(&t["PrivateIpAddresses"][0])).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A target of a batch.
fn target(listener: &str, ip: &str) -> Value {
    json!({"ListenerId": listener, "EniIp": ip, "Port": 8080})
}
