//! Bad input and trouble: each is said, and keeps nothing else from being done.

use std::time::Duration;

use directlb::{
    provider::tencent::{Report, Trouble},
    sync::ErrorKind,
};
use e2e::tencent::{Faults, Settings};
use serde_json::json;

use super::{
    ID, KEY,
    control::{Crash, Listen, Object, World},
    seconds,
};

const LONG: Duration = Duration::from_secs(600);

fn web() -> Object {
    Object::new("web", vec![Listen::tcp("tcp", 443, &[1, 2])])
}

fn said(report: &Report, kind: ErrorKind, text: &str) -> bool {
    report.troubles.iter().any(|t: &Trouble| t.kind == kind && t.message.contains(text))
}

async fn says(w: &mut World, name: &'static str, kind: ErrorKind, text: &str) {
    let ok = w.until(LONG, |w| said(&w.report(name), kind, text)).await;
    assert!(ok, "{text}: {:#?}", w.report(name));
}

async fn settles(w: &mut World) {
    assert!(w.until(LONG, World::settled).await, "{:#?}\n{:#}", w.report("web"), w.cloud.dump());
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_and_right_ones_later() {
    for (id, key, text) in
        [("AKIDother", KEY, "AuthFailure.SecretIdNotFound"), (ID, "wrong", "AuthFailure.SignatureFailure")]
    {
        let mut w = World::new(Settings::default());
        w.credentials.secret_id = id.into();
        w.credentials.secret_key = key.into();
        w.put(web());
        says(&mut w, "web", ErrorKind::Denied, text).await;
        // They are corrected: it does not wait for a pause to end.
        w.until(seconds(200), |_| false).await;
        w.credentials.secret_id = ID.into();
        w.credentials.secret_key = KEY.into();
        assert!(w.until(seconds(20), World::settled).await, "{:#?}", w.report("web"));
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_that_may_nothing() {
    let mut w = World::new(Settings { denied: vec![ID.into()], ..Settings::default() });
    w.put(web());
    says(&mut w, "web", ErrorKind::Denied, "UnauthorizedOperation").await;
    assert!(w.load_balancers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong() {
    let mut w = World::new(Settings { start: Settings::default().start, ..Settings::default() });
    w.skew(3600);
    w.put(web());
    says(&mut w, "web", ErrorKind::Denied, "AuthFailure.SignatureExpire").await;
}

#[tokio::test(start_paused = true)]
async fn places_that_do_not_exist() {
    let mut w = World::new(Settings::default());
    w.region = "ap-atlantis".into();
    w.put(web());
    says(&mut w, "web", ErrorKind::Invalid, "UnsupportedRegion").await;

    let mut w = World::new(Settings::default());
    w.goal.new.vpc_id = "vpc-unknown0".into();
    w.put(web());
    says(&mut w, "web", ErrorKind::Invalid, "vpc-unknown0").await;
    w.goal.new.vpc_id = "vpc-emulator".into();
    settles(&mut w).await;

    let mut w = World::new(Settings::default());
    w.goal.new.subnet_id = Some("subnet-unknown0".into());
    w.put(web());
    says(&mut w, "web", ErrorKind::Invalid, "subnet-unknown0").await;
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_to_adopt_that_is_not_there() {
    let mut w = World::new(Settings::default());
    w.put(Object { adopt: Some("lb-unknown0".into()), ..web() });
    w.put(Object::new("other", vec![Listen::tcp("tcp", 443, &[3])]));
    says(&mut w, "web", ErrorKind::NotFound, "there is no load balancer lb-unknown0").await;
    assert!(w.until(LONG, |w| w.serving("other").values().sum::<usize>() == 1).await, "it keeps another object out");
    assert_eq!(w.load_balancers().len(), 1, "one was made instead");
    // It can go all the same.
    w.objects.get_mut("web").unwrap().deleting = true;
    assert!(w.until(LONG, |w| !w.objects.contains_key("web")).await);
}

#[tokio::test(start_paused = true)]
async fn quotas_are_filled_and_the_rest_waits() {
    // Load balancers.
    let mut w = World::new(Settings::default());
    w.cloud.set_quota("TOTAL_INTERNAL_CLB_QUOTA", 0);
    w.put(web());
    says(&mut w, "web", ErrorKind::Quota, "TOTAL_INTERNAL_CLB_QUOTA").await;
    w.cloud.set_quota("TOTAL_INTERNAL_CLB_QUOTA", 1);
    settles(&mut w).await;

    // Listeners: what fits is there.
    w.cloud.set_quota("TOTAL_LISTENER_QUOTA", 2);
    w.put(Object::new(
        "web",
        vec![Listen::tcp("tcp", 443, &[1]), Listen::tcp("b", 444, &[1]), Listen::tcp("c", 445, &[1])],
    ));
    says(&mut w, "web", ErrorKind::Quota, "TOTAL_LISTENER_QUOTA").await;
    assert!(w.until(LONG, |w| w.serving("web").len() == 2).await, "{:?}", w.serving("web"));
    w.cloud.set_quota("TOTAL_LISTENER_QUOTA", 50);
    settles(&mut w).await;

    // Rules.
    w.cloud.set_quota("TOTAL_LISTENER_RULE_QUOTA", 2);
    let http = Listen::http("http", 80, &[1]).rule("*", "/a", &[1]).rule("*", "/b", &[1]);
    w.put(Object::new("web", vec![Listen::tcp("tcp", 443, &[1]), http]));
    says(&mut w, "web", ErrorKind::Quota, "TOTAL_LISTENER_RULE_QUOTA").await;
    assert!(
        w.until(LONG, |w| w.serving("web").values().filter(|n| **n == 1).count() == 3).await,
        "{:?}",
        w.serving("web")
    );
    w.cloud.set_quota("TOTAL_LISTENER_RULE_QUOTA", 50);
    settles(&mut w).await;

    // Targets.
    w.cloud.set_quota("TOTAL_TARGET_BIND_QUOTA", 5);
    w.put(Object::new("web", vec![Listen::tcp("tcp", 443, &[1, 2, 3, 4, 5, 6, 7, 8])]));
    says(&mut w, "web", ErrorKind::Quota, "TOTAL_TARGET_BIND_QUOTA").await;
    assert!(w.until(LONG, |w| w.serving("web").values().sum::<usize>() == 5).await, "{:?}", w.serving("web"));
    w.cloud.set_quota("TOTAL_TARGET_BIND_QUOTA", 200);
    settles(&mut w).await;
}

/// What would be too much is not even sent.
#[tokio::test(start_paused = true)]
async fn a_quota_that_is_known_is_not_tried() {
    let mut w = World::new(Settings::default());
    w.cloud.set_quota("TOTAL_TARGET_BIND_QUOTA", 2);
    w.cloud.set_quota("TOTAL_LISTENER_RULE_QUOTA", 2);
    let http = Listen::http("http", 80, &[1]).rule("*", "/a", &[1]).rule("*", "/b", &[1]);
    w.put(Object::new("web", vec![Listen::tcp("tcp", 443, &[1, 2, 3, 4]), http]));
    says(&mut w, "web", ErrorKind::Quota, "TOTAL_TARGET_BIND_QUOTA is 2 for a listener or rule").await;
    says(&mut w, "web", ErrorKind::Quota, "TOTAL_LISTENER_RULE_QUOTA is 2 for a listener").await;
    w.until(seconds(300), |_| false).await;
    let refused: Vec<_> = w.cloud.ledger().into_iter().filter(|c| c.outcome != "OK").collect();
    assert!(refused.is_empty(), "{refused:?}");
    // A target that leaves makes room; a greater quota is seen within a minute or so.
    w.objects.get_mut("web").unwrap().listeners[0] = Listen::tcp("tcp", 443, &[2, 3, 4]);
    assert!(w.until(seconds(60), |w| w.bound("web").iter().any(|b| b.port == 443 && b.pod == 3)).await);
    w.cloud.set_quota("TOTAL_TARGET_BIND_QUOTA", 200);
    w.cloud.set_quota("TOTAL_LISTENER_RULE_QUOTA", 50);
    assert!(w.until(seconds(120), World::settled).await, "{:#?}", w.report("web"));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_refused_keeps_no_other_out() {
    let mut w = World::new(Settings::default());
    w.cloud.set_refused_address("10.0.0.2", true);
    w.put(Object::new("web", vec![Listen::tcp("tcp", 443, &[1, 2, 3])]));
    says(&mut w, "web", ErrorKind::Invalid, "10.0.0.2").await;
    assert!(w.until(LONG, |w| w.serving("web").values().sum::<usize>() == 2).await);
    assert!(!w.open.contains(&("web".into(), "uid-2".into())), "its gate is open");
    w.cloud.set_refused_address("10.0.0.2", false);
    settles(&mut w).await;
    assert!(w.open.contains(&("web".into(), "uid-2".into())));
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_vanishes_while_it_is_written_to() {
    let mut w = World::new(Settings::default());
    w.put(Object::new("web", vec![Listen::tcp("a", 443, &[1]), Listen::tcp("b", 444, &[1])]));
    settles(&mut w).await;
    let lb = w.report("web").id;
    let listeners = w.cloud.plain("DescribeListeners", json!({"LoadBalancerId": lb})).unwrap();
    let gone =
        listeners["Listeners"].as_array().unwrap().iter().find(|l| l["Port"] == 443).unwrap()["ListenerId"].clone();
    w.cloud.plain("DeleteListener", json!({"LoadBalancerId": lb, "ListenerId": gone})).unwrap();
    w.put(Object::new("web", vec![Listen::tcp("a", 443, &[1, 2]), Listen::tcp("b", 444, &[1, 2])]));
    // Long before the next look that was planned.
    assert!(w.until(seconds(60), World::settled).await, "{:#?}", w.report("web"));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_never_ends() {
    let mut w = World::new(Settings { stuck: seconds(400), ..Settings::default() });
    w.put(web());
    w.put(Object::new("other", vec![Listen::tcp("tcp", 443, &[3])]));
    settles(&mut w).await;
    w.cloud.set_faults(Faults { task_stuck: 1.0, ..Faults::default() });
    w.put(Object::new("web", vec![Listen::tcp("tcp", 443, &[1, 2, 4])]));
    w.until(seconds(1), |_| false).await;
    w.cloud.set_faults(Faults::default());
    w.put(Object::new("other", vec![Listen::tcp("tcp", 443, &[3, 5])]));
    let other = w.until(seconds(30), |w| w.serving("other").values().sum::<usize>() == 2).await;
    assert!(other, "it keeps another load balancer out");
    let stuck = w.until(seconds(200), |w| !w.report("web").troubles.is_empty()).await;
    assert!(stuck, "nobody is told");
    settles(&mut w).await;
}

/// Everything at once: throttles, errors, lost replies, failed tasks, replies that lag behind, and controllers that die.
#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_it_converges() {
    for seed in 0..40 {
        let settings = Settings { seed, consistency: seconds(seed % 4), ..Settings::default() };
        let mut w = World::new(settings);
        w.cloud.set_faults(Faults {
            throttle: 0.1,
            internal_error: 0.05,
            reply_lost_after_commit: 0.05,
            task_failed: 0.05,
            partial_failure: 0.05,
            ..Faults::default()
        });
        w.put(Object::new(
            "web",
            vec![Listen::tcp("tcp", 443, &[1, 2, 3]), Listen::http("http", 80, &[1, 2]).rule("a.example", "/x", &[3])],
        ));
        for round in 0..4_usize {
            let at = 3 + (usize::try_from(seed).unwrap() * 7 + round * 5) % 23;
            w.restart(Some(Crash { at, after: seed % 2 == 0 }));
            w.until(LONG, |w| w.dead()).await;
            w.restart(None);
            let pods: Vec<u8> = (1..=3 + u8::try_from(round).unwrap()).collect();
            w.objects.get_mut("web").unwrap().listeners[0] = Listen::tcp("tcp", 443, &pods);
        }
        let settled = w.until(Duration::from_secs(3600), World::settled).await;
        assert!(settled, "seed {seed}: {:#?}\n{:#}", w.report("web"), w.cloud.dump());
        assert_eq!(w.load_balancers().len(), 1, "seed {seed}");
        w.objects.get_mut("web").unwrap().deleting = true;
        let gone = w.until(Duration::from_secs(3600), |w| w.objects.is_empty()).await;
        assert!(gone, "seed {seed}: {:#?}", w.report("web"));
        w.until(seconds(10), |_| false).await;
        assert_eq!(w.load_balancers().len(), 0, "seed {seed}");
    }
}
