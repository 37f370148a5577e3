//! Listeners, rules, domains and redirects.

use e2e::tencent::Settings;
use serde_json::{Value, json};

use crate::{Client, text};

#[tokio::test(start_paused = true)]
async fn a_port_is_taken_once_by_tcp_and_once_by_udp() {
    let client = Client::new(Settings::default());
    let lb = client.balancer().await;
    let listener = |protocol: &str, ports: &[u16]| json!({"LoadBalancerId": lb, "Ports": ports, "Protocol": protocol});
    client.done("CreateListener", listener("TCP", &[80])).await;
    client.done("CreateListener", listener("UDP", &[80])).await;
    client.refused("InvalidParameter.PortCheckFailed", "CreateListener", listener("HTTP", &[80])).await;
    client.refused("InvalidParameter.PortCheckFailed", "CreateListener", listener("TCP", &[81, 81])).await;
    client.refused("MissingParameter", "CreateListener", listener("HTTPS", &[443])).await;
    client.refused("InvalidParameterValue", "CreateListener", listener("SCTP", &[9])).await;
    let mut checked = listener("HTTP", &[8080]);
    checked["HealthCheck"] = json!({"HealthSwitch": 1});
    client.refused("InvalidParameterCombination", "CreateListener", checked).await;
    let mut slow = listener("TCP", &[8080]);
    slow["HealthCheck"] = json!({"TimeOut": 5, "IntervalTime": 5});
    client.refused("InvalidParameterValue", "CreateListener", slow).await;

    let params = json!({"LoadBalancerId": lb, "ListenerIds": ["lbl-unknown0"]});
    client.refused("InvalidParameter", "DeleteLoadBalancerListeners", params).await;
    client.done("DeleteLoadBalancerListeners", json!({"LoadBalancerId": lb})).await;
    let shown = client.ok("DescribeListeners", json!({"LoadBalancerId": lb})).await;
    assert_eq!(shown["TotalCount"], 0);
}

async fn http(client: &Client, lb: &str, port: u16) -> String {
    let params = json!({"LoadBalancerId": lb, "Ports": [port], "Protocol": "HTTP"});
    text(&client.done("CreateListener", params).await["ListenerIds"][0])
}

async fn rules(client: &Client, lb: &str, listener: &str, rules: Value) -> Vec<String> {
    let params = json!({"LoadBalancerId": lb, "ListenerId": listener, "Rules": rules});
    client.done("CreateRule", params).await["LocationIds"].as_array().unwrap().iter().map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn rules_have_targets_and_a_default_domain() {
    let client = Client::new(Settings::default());
    let lb = client.balancer().await;
    let l = http(&client, &lb, 80).await;
    let r = rules(&client, &lb, &l, json!([{"Domain": "a.test", "Url": "/"}, {"Domain": "b.test", "Url": "/"}])).await;
    let twice = json!({"LoadBalancerId": lb, "ListenerId": l, "Rules": [{"Domain": "a.test", "Url": "/"}]});
    client.refused("InvalidParameterValue.Duplicate", "CreateRule", twice).await;

    let mut target = json!({"ListenerId": l, "EniIp": "10.1.0.1", "Port": 8080});
    let batch = |target: &Value| json!({"LoadBalancerId": lb, "Targets": [target]});
    client.refused("MissingParameter", "BatchRegisterTargets", batch(&target)).await;
    target["LocationId"] = json!("loc-unknown0");
    client.refused("InvalidParameter.LocationNotFound", "BatchRegisterTargets", batch(&target)).await;
    target["LocationId"] = json!(r[0]);
    client.done("BatchRegisterTargets", batch(&target)).await;
    let shown = client.ok("DescribeTargets", json!({"LoadBalancerId": lb})).await;
    assert_eq!(shown["Listeners"][0]["Rules"][0]["Targets"][0]["Port"], 8080);

    let delete = |new: Option<&str>| {
        let mut params = json!({"LoadBalancerId": lb, "ListenerId": l, "LocationIds": [r[0]]});
        if let Some(new) = new {
            params["NewDefaultServerDomain"] = json!(new);
        }
        params
    };
    client.refused("MissingParameter", "DeleteRule", delete(None)).await;
    client.done("DeleteRule", delete(Some("b.test"))).await;
    let shown = client.ok("DescribeListeners", json!({"LoadBalancerId": lb})).await;
    let rules = shown["Listeners"][0]["Rules"].as_array().unwrap();
    assert_eq!((rules.len(), &rules[0]["DefaultServer"]), (1, &json!(true)));
}

#[tokio::test(start_paused = true)]
async fn redirects_are_there_once_and_go_with_their_target() {
    let client = Client::new(Settings::default());
    let lb = client.balancer().await;
    let (from, to) = (http(&client, &lb, 80).await, http(&client, &lb, 81).await);
    let rule = json!([{"Domain": "a.test", "Url": "/"}]);
    let source = rules(&client, &lb, &from, rule.clone()).await.remove(0);
    let target = rules(&client, &lb, &to, rule).await.remove(0);
    let params = json!({"LoadBalancerId": lb, "SourceListenerId": from, "TargetListenerId": to,
        "RewriteInfos": [{"SourceLocationId": source, "TargetLocationId": target}]});
    client.refused("InvalidParameter.SomeRewriteNotFound", "DeleteRewrite", params.clone()).await;
    client.done("ManualRewrite", params.clone()).await;
    client.refused("InvalidParameter.RewriteAlreadyExist", "ManualRewrite", params).await;
    let shown = client.ok("DescribeRewrite", json!({"LoadBalancerId": lb})).await;
    assert_eq!(shown["RewriteSet"][0]["RewriteTarget"]["TargetLocationId"], json!(target));
    client.done("DeleteListener", json!({"LoadBalancerId": lb, "ListenerId": to})).await;
    let shown = client.ok("DescribeRewrite", json!({"LoadBalancerId": lb})).await;
    assert_eq!(shown["RewriteSet"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn certificates_are_replaced_wherever_they_are() {
    let client = Client::new(Settings::default());
    let lb = client.balancer().await;
    let params = json!({"LoadBalancerId": lb, "Ports": [443], "Protocol": "HTTPS", "SniSwitch": 1});
    let l = text(&client.done("CreateListener", params).await["ListenerIds"][0]);
    let domain = |certificate: &str| json!([{"Domain": "a.test", "Url": "/", "Certificate": {"CertId": certificate}}]);
    let plain = json!({"LoadBalancerId": lb, "ListenerId": l, "Rules": [{"Domain": "a.test", "Url": "/"}]});
    client.refused("MissingParameter", "CreateRule", plain).await;
    rules(&client, &lb, &l, domain("cert-old")).await;
    let params = json!({"OldCertificateId": "cert-old", "Certificate": {"CertId": "cert-new"}});
    client.done("ReplaceCertForLoadBalancers", params.clone()).await;
    let shown = client.ok("DescribeListeners", json!({"LoadBalancerId": lb})).await;
    assert_eq!(shown["Listeners"][0]["Rules"][0]["Certificate"]["CertId"], "cert-new");
    client.refused("InvalidParameterValue", "ReplaceCertForLoadBalancers", params).await;
}
