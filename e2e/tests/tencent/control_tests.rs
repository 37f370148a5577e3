//! Load balancers from making to deleting, as the controller drives them.

use std::time::Duration;

use directlb::api::Protocol;
use e2e::tencent::Settings;

use super::{
    control::{Listen, Object, Pod, World},
    seconds,
};

const LONG: Duration = Duration::from_secs(300);

async fn served(listeners: Vec<Listen>) -> World {
    let mut w = World::new(Settings::default());
    w.put(Object::new("web", listeners));
    assert!(w.until(LONG, World::settled).await, "{:#?}\n{:#}", w.report("web"), w.cloud.dump());
    w
}

#[tokio::test(start_paused = true)]
async fn from_nothing_to_serving_and_back() {
    let listeners = vec![
        Listen::tcp("tcp", 443, &[1, 2, 3]),
        Listen::http("http", 80, &[1, 2]).rule("shop.example.com", "/cart", &[3]).rule("*", "/static", &[2]),
    ];
    let mut w = served(listeners).await;
    assert_eq!(w.load_balancers().len(), 1);
    let rules: Vec<String> = w.serving("web").into_keys().filter(|(p, _)| *p == 80).map(|(_, r)| r).collect();
    let vip = w.report("web").addresses[0].clone();
    let mut expected = vec![
        format!("{vip}/"),
        format!("{vip}/static"),
        "shop.example.com/".to_owned(),
        "shop.example.com/cart".to_owned(),
        "shop.example.com/static".to_owned(),
    ];
    expected.sort();
    assert_eq!(rules, expected);
    assert_eq!(w.incidents, [""; 0]);

    w.objects.get_mut("web").unwrap().deleting = true;
    assert!(w.until(LONG, |w| w.objects.is_empty()).await, "{:#}", w.cloud.dump());
    assert_eq!(w.load_balancers().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn at_rest_nothing_is_written() {
    let mut w = served(vec![Listen::tcp("tcp", 443, &[1, 2]), Listen::http("http", 80, &[1])]).await;
    w.cloud.clear_ledger();
    w.restart(None);
    w.until(seconds(1200), |_| false).await;
    let writes: Vec<_> = w.cloud.ledger().into_iter().filter(|c| !c.action.starts_with("Describe")).collect();
    assert!(writes.is_empty(), "{writes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_drains_and_never_stops_serving() {
    let mut w = served(vec![Listen::tcp("tcp", 443, &[1, 2])]).await;
    for (old, new) in [(0, 3), (1, 4)] {
        let listen = &mut w.objects.get_mut("web").unwrap().listeners[0];
        listen.pods.push(Pod::new(new));
        let good = w.until(LONG, |w| w.open.contains(&("web".into(), format!("uid-{new}")))).await;
        assert!(good, "the new Pod's gate did not open");
        let listen = &mut w.objects.get_mut("web").unwrap().listeners[0];
        listen.pods[old].leaving = true;
        let leaving = listen.pods[old].n;
        let mut weightless = 0;
        let gone = w
            .until(LONG, |w| {
                let bound = w.bound("web");
                assert!(bound.iter().any(|b| b.weight > 0 && b.alive), "{bound:?}");
                let found = bound.iter().find(|b| b.pod == leaving);
                weightless += usize::from(found.is_some_and(|b| b.weight == 0));
                found.is_none()
            })
            .await;
        assert!(gone);
        // 5 seconds, and ten looks in each.
        assert!((45..=90).contains(&weightless), "{weightless}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_break_is_put_right_and_said() {
    let mut w = served(vec![Listen::tcp("tcp", 443, &[1, 2]), Listen::http("http", 80, &[1, 2])]).await;
    let lb = w.report("web").id;
    let listeners = w.cloud.plain("DescribeListeners", serde_json::json!({"LoadBalancerId": lb})).unwrap();
    let id = |port: u64| {
        let all = listeners["Listeners"].as_array().unwrap();
        all.iter().find(|l| l["Port"] == port).unwrap()["ListenerId"].as_str().unwrap().to_owned()
    };
    w.cloud.plain("DeleteListener", serde_json::json!({"LoadBalancerId": lb, "ListenerId": id(80)})).unwrap();
    let target = serde_json::json!([{"EniIp": "10.0.0.1", "Port": 8080}]);
    let params = serde_json::json!({"LoadBalancerId": lb, "ListenerId": id(443), "Targets": target});
    w.cloud.plain("DeregisterTargets", params).unwrap();
    w.until(seconds(400), |w| w.incidents.len() == 1).await;
    assert!(w.incidents[0].contains("create listener http") && w.incidents[0].contains("register 10.0.0.1:8080"));
    assert!(w.until(LONG, World::settled).await);

    // The whole of it.
    w.cloud.plain("DeleteLoadBalancer", serde_json::json!({"LoadBalancerIds": [lb], "ForceDelete": true})).unwrap();
    let new =
        w.until(seconds(700), |w| !w.report("web").id.is_empty() && w.report("web").id != lb && w.settled()).await;
    assert!(new, "{:?}", w.report("web"));
    assert!(w.incidents[1].contains("deleted by others"), "{:?}", w.incidents);
    assert_eq!(w.load_balancers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_adopted_load_balancer_keeps_what_is_not_ours() {
    let mut w = World::new(Settings::default());
    let params =
        serde_json::json!({"LoadBalancerType": "INTERNAL", "VpcId": "vpc-emulator", "SubnetId": "subnet-emulator"});
    let lb = w.cloud.plain("CreateLoadBalancer", params).unwrap()["LoadBalancerIds"][0].as_str().unwrap().to_owned();
    let params = serde_json::json!({"LoadBalancerId": lb, "Ports": [22, 8443], "Protocol": "TCP", "ListenerNames": ["ssh", "web.example"]});
    let theirs = w.cloud.plain("CreateListener", params).unwrap()["ListenerIds"].clone();
    let target = serde_json::json!([{"EniIp": "10.9.9.9", "Port": 22}]);
    let params = serde_json::json!({"LoadBalancerId": lb, "ListenerId": theirs[0], "Targets": target});
    w.cloud.plain("RegisterTargets", params).unwrap();
    let foreign = |w: &World| {
        let all = w.load_balancers()[&lb].clone();
        let mut all = all["listeners"].as_array().unwrap().clone();
        all.retain(|l| theirs.as_array().unwrap().contains(&l["id"]));
        serde_json::to_string(&all).unwrap()
    };
    let before = foreign(&w);
    assert!(before.contains("10.9.9.9"), "{before}");
    w.put(Object { adopt: Some(lb.clone()), ..Object::new("web", vec![Listen::tcp("tcp", 443, &[1])]) });
    assert!(w.until(LONG, World::settled).await, "{:?}", w.report("web"));
    assert_eq!(foreign(&w), before);

    // A port that is theirs, and one that another object has.
    w.put(Object {
        adopt: Some(lb.clone()),
        ..Object::new(
            "b",
            vec![Listen::tcp("ssh", 22, &[2]), Listen::tcp("t", 443, &[2]), Listen::tcp("ok", 444, &[2])],
        )
    });
    let said =
        |w: &mut World| w.report("b").troubles.iter().filter(|t| t.message.contains("PortCheckFailed")).count() == 2;
    assert!(w.until(LONG, said).await, "{:#?}", w.report("b"));
    assert!(
        w.until(LONG, |w| w.serving("b").get(&(444, String::new())) == Some(&1)).await,
        "one bad port keeps the others out"
    );
    assert_eq!(foreign(&w), before);

    for name in ["web", "b"] {
        w.objects.get_mut(name).unwrap().deleting = true;
    }
    assert!(w.until(LONG, |w| w.objects.is_empty()).await);
    assert_eq!(foreign(&w), before);
    assert_eq!(w.load_balancers()[&lb]["listeners"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn security_groups_are_as_the_class_says() {
    let mut w = World::new(Settings::default());
    w.goal.security_groups = ["sg-a".to_owned(), "sg-b".to_owned()].into();
    w.goal.new.load_balancer_pass_to_target = Some(true);
    w.put(Object::new("web", vec![Listen::tcp("tcp", 443, &[1])]));
    let is = |w: &World| {
        let (_, lb) = w.load_balancers().into_iter().next().unwrap();
        (lb["security_groups"].clone(), lb["attributes"]["LoadBalancerPassToTarget"].clone())
    };
    assert!(w.until(LONG, World::settled).await, "{:#?}", w.report("web"));
    assert_eq!(is(&w), (serde_json::json!(["sg-a", "sg-b"]), serde_json::json!(true)));
    w.goal.security_groups = ["sg-c".to_owned()].into();
    w.goal.new.load_balancer_pass_to_target = Some(false);
    w.until(seconds(10), |_| false).await;
    assert_eq!(is(&w), (serde_json::json!(["sg-c"]), serde_json::json!(false)));
    let lb = w.report("web").id;
    let params = serde_json::json!({"LoadBalancerId": lb, "SecurityGroups": ["sg-x"]});
    w.cloud.plain("SetLoadBalancerSecurityGroups", params).unwrap();
    assert!(w.until(seconds(400), |w| is(w).0 == serde_json::json!(["sg-c"])).await);
}

/// As the most that there may be of names in a test is `&'static str`.
fn named(n: usize) -> &'static str {
    Box::leak(format!("web-{n}").into_boxed_str())
}

#[tokio::test(start_paused = true)]
async fn quic_beside_https_at_one_port() {
    let quic = Listen { protocol: Protocol::QUIC, ..Listen::https("quic", 443, "certificate", &[1, 2]) };
    let mut w = served(vec![Listen::https("https", 443, "certificate", &[1, 2]), quic.clone()]).await;
    let (_, lb) = w.load_balancers().into_iter().next().unwrap();
    let mut protocols: Vec<_> = lb["listeners"].as_array().unwrap().iter().map(|l| l["protocol"].clone()).collect();
    protocols.sort_by_key(ToString::to_string);
    assert_eq!(protocols, ["HTTPS", "QUIC"]);
    // A new certificate, and a controller that finds all that there is.
    let mut quic = quic;
    quic.certificate = Some("renewed");
    w.put(Object::new("web", vec![Listen::https("https", 443, "certificate", &[1, 2]), quic]));
    assert!(w.until(LONG, World::settled).await, "{:#?}", w.report("web"));
    w.cloud.clear_ledger();
    w.restart(None);
    assert!(w.until(LONG, World::settled).await, "{:#?}", w.report("web"));
    assert!(w.cloud.ledger().iter().all(|c| c.action.starts_with("Describe")), "{:?}", w.cloud.ledger());
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_starts_looks_once_and_writes_nothing() {
    const BALANCERS: usize = 200;
    let mut w = World::new(Settings { rate: 1000, ..Settings::default() });
    w.cloud.set_quota("TOTAL_INTERNAL_CLB_QUOTA", 1000);
    w.rate = Some(1000);
    let pods: Vec<u8> = (1..=50).collect();
    let names: Vec<&'static str> = (0..BALANCERS).map(named).collect();
    for name in &names {
        w.put(Object::new(name, vec![Listen::tcp("tcp", 443, &pods)]));
    }
    w.reconcile();
    let mut healthy = 0;
    for _ in 0..300 {
        w.reconcile_changed();
        tokio::time::sleep(Duration::from_millis(200)).await;
        healthy = w.open.len();
        if healthy == BALANCERS * 50 {
            break;
        }
    }
    assert_eq!(healthy, BALANCERS * 50);

    w.cloud.clear_ledger();
    w.rate = None;
    w.restart(None);
    w.reconcile();
    for _ in 0..300 {
        w.reconcile_changed();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(names.iter().all(|n| w.report(n).looked && w.report(n).troubles.is_empty()));
    let calls = w.cloud.ledger();
    assert!(calls.iter().all(|c| c.action.starts_with("Describe")), "a write: {calls:?}");
    let n = |action: &str| calls.iter().filter(|c| c.action == action).count();
    // Quotas once; 20 load balancers in a call; listeners and targets are asked of one load balancer.
    let least = 1 + BALANCERS / 20 + BALANCERS + BALANCERS;
    let looks = n("DescribeQuota") + n("DescribeLoadBalancers") + n("DescribeListeners") + n("DescribeTargets");
    assert!(looks * 10 <= least * 11, "{looks} calls, {least} are enough");
    // Health of 30 in a call: twice in this minute, and once for those that are looked at within the same second.
    assert!(n("DescribeTargetHealth") <= 2 * BALANCERS.div_ceil(30) + 2 * 11, "{}", n("DescribeTargetHealth"));
}
