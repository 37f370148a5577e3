//! The controller dies before and after every single call, and another one takes over from what the cluster and the cloud
//! say: it converges, nothing is there twice, nothing is left behind, and what serves goes on serving.

use std::{collections::BTreeMap, time::Duration};

use e2e::tencent::Settings;

use super::control::{Crash, Listen, Object, Pod, World};

const LONG: Duration = Duration::from_secs(600);

/// A change to a world that has settled, or to an empty one.
struct Scenario {
    name: &'static str,
    before: Option<fn() -> Object>,
    after: fn() -> Object,
    /// Ports that serve all along, because they do before and after.
    serves: &'static [u16],
}

fn object(listeners: Vec<Listen>) -> Object {
    Object::new("web", listeners)
}

fn usual() -> Object {
    object(vec![
        Listen::tcp("tcp", 443, &[1, 2]),
        Listen::http("http", 80, &[1, 2]).rule("shop.example.com", "/cart", &[3]),
    ])
}

fn https(certificate: &'static str) -> Object {
    object(vec![Listen::https("https", 443, certificate, &[1])])
}

fn redirecting(status: u16) -> Object {
    object(vec![
        Listen::https("https", 443, "certificate", &[1]).rule("shop.example.com", "/cart", &[3]),
        Listen::redirect("http", 80, "https", status),
    ])
}

fn both_serve() -> Object {
    let mut object = redirecting(301);
    object.listeners[1] = Listen::http("http", 80, &[1, 2]);
    object
}

fn leaving(mut object: Object, n: u8) -> Object {
    for l in &mut object.listeners {
        for pod in l.pods.iter_mut().chain(l.rules.iter_mut().flat_map(|(_, _, pods)| pods)) {
            pod.leaving |= pod.n == n;
        }
    }
    object
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "create all", before: None, after: usual, serves: &[] },
    Scenario {
        name: "scale",
        before: Some(usual),
        after: || {
            object(vec![
                Listen::tcp("tcp", 443, &[1, 2, 4, 5]),
                Listen::http("http", 80, &[1, 2, 4, 5]).rule("shop.example.com", "/cart", &[3, 6]),
            ])
        },
        serves: &[80, 443],
    },
    Scenario {
        name: "health check",
        before: Some(usual),
        after: || {
            let mut object = usual();
            object.listeners.iter_mut().for_each(|l| l.interval = 5);
            object
        },
        serves: &[80, 443],
    },
    Scenario { name: "certificate", before: Some(|| https("old")), after: || https("new"), serves: &[443] },
    Scenario {
        name: "certificate by id",
        before: Some(|| https("old")),
        after: || https("id:abcd1234"),
        serves: &[443],
    },
    Scenario {
        name: "rules",
        before: Some(usual),
        after: || {
            object(vec![
                Listen::tcp("tcp", 443, &[1, 2]),
                Listen::http("http", 80, &[1, 2]).rule("shop.example.com", "/basket", &[3]).rule("*", "/img", &[2]),
            ])
        },
        serves: &[80, 443],
    },
    Scenario {
        name: "ports and names",
        before: Some(usual),
        after: || {
            object(vec![
                Listen::tcp("tcp", 444, &[1, 2]),
                Listen::http("renamed", 80, &[1, 2]).rule("shop.example.com", "/cart", &[3]),
            ])
        },
        serves: &[80],
    },
    Scenario {
        name: "drain",
        before: Some(|| object(vec![Listen::tcp("tcp", 443, &[1, 2, 3]), Listen::http("http", 80, &[1, 2, 3])])),
        after: || leaving(object(vec![Listen::tcp("tcp", 443, &[1, 2, 3]), Listen::http("http", 80, &[1, 2, 3])]), 2),
        serves: &[80, 443],
    },
    Scenario { name: "redirect", before: Some(both_serve), after: || redirecting(302), serves: &[443] },
    Scenario {
        name: "another redirect",
        before: Some(|| redirecting(302)),
        after: || redirecting(301),
        serves: &[443],
    },
    Scenario { name: "no redirect", before: Some(|| redirecting(301)), after: both_serve, serves: &[443] },
    Scenario { name: "delete", before: Some(usual), after: || Object { deleting: true, ..usual() }, serves: &[] },
];

async fn settled(scenario: &Scenario) -> World {
    let mut w = World::new(Settings::default());
    if let Some(before) = scenario.before {
        w.put(before());
        assert!(
            w.until(LONG, World::settled).await,
            "{}: it does not even start: {:#?}",
            scenario.name,
            w.report("web")
        );
    }
    w
}

/// The change is carried out, with a crash or without; how many calls that took.
async fn run(scenario: &Scenario, crash: Option<Crash>, last: usize) -> usize {
    let at = format!("{}, {crash:?}", scenario.name);
    let mut w = settled(scenario).await;
    let known: Vec<String> = w.load_balancers().into_keys().collect();
    w.restart(crash);
    w.put((scenario.after)());
    let end = (scenario.after)();
    let mut restarted = false;
    let converged = w
        .until(LONG, |w| {
            if w.dead() && !restarted {
                restarted = true;
                w.restart(None);
                return false;
            }
            let serving = w.serving("web");
            for port in scenario.serves {
                let n: usize = serving.iter().filter(|((p, _), _)| p == port).map(|(_, n)| n).sum();
                assert!(n > 0, "{at}: nothing serves at port {port}: {serving:?}");
            }
            assert!(w.load_balancers().len() <= 1, "{at}: two load balancers");
            if end.deleting { w.objects.is_empty() } else { finish(w, &end) }
        })
        .await;
    assert!(converged, "{at}: {:#?}\n{:#}", w.report("web"), w.cloud.dump());
    // The reply to the last call may come when all is done already.
    assert!(crash.is_none_or(|c| c.at == last) || restarted, "{at}: the call never came");
    if end.deleting {
        assert!(w.load_balancers().is_empty(), "{at}: left behind: {:#}", w.cloud.dump());
        return w.calls();
    }
    let now: Vec<String> = w.load_balancers().into_keys().collect();
    assert!(known.is_empty() || known == now, "{at}: another load balancer");
    exact(&w, &end, &at);
    w.calls()
}

/// Leaving Pods are gone in the end; the rest has settled.
fn finish(w: &mut World, end: &Object) -> bool {
    let gone: Vec<u8> = end.listeners.iter().flat_map(|l| &l.pods).filter(|p| p.leaving).map(|p| p.n).collect();
    if gone.is_empty() {
        return w.settled();
    }
    if w.bound("web").iter().any(|b| gone.contains(&b.pod)) {
        return false;
    }
    let mut object = end.clone();
    object.listeners.iter_mut().for_each(|l| l.pods.retain(|p| !p.leaving));
    w.put(object);
    w.settled()
}

/// The listeners, rules and targets of the object are there, once each, and nothing else is.
fn exact(w: &World, end: &Object, at: &str) {
    let (_, lb) = w.load_balancers().into_iter().next().unwrap();
    let mut ports: Vec<u64> = lb["listeners"].as_array().unwrap().iter().map(|l| l["port"].as_u64().unwrap()).collect();
    let mut wanted: Vec<u64> = end.listeners.iter().map(|l| u64::from(l.port)).collect();
    ports.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(ports, wanted, "{at}");
    let pods = |pods: &[Pod]| pods.iter().filter(|p| !p.leaving).count();
    let mut expected: BTreeMap<u16, usize> = BTreeMap::new();
    for l in &end.listeners {
        let mut n = pods(&l.pods);
        let hosts: std::collections::BTreeSet<_> = l.rules.iter().map(|(h, _, _)| *h).filter(|h| *h != "*").collect();
        // Each domain has its own rules, those for any host, and the default.
        n += hosts.len() * pods(&l.pods);
        n += l.rules.iter().map(|(h, _, p)| pods(p) * if *h == "*" { 1 + hosts.len() } else { 1 }).sum::<usize>();
        if n > 0 {
            expected.insert(l.port, n);
        }
    }
    for l in &end.listeners {
        redirected(&lb, l, at);
    }
    let mut found: BTreeMap<u16, usize> = BTreeMap::new();
    w.bound("web").iter().for_each(|b| *found.entry(b.port).or_default() += 1);
    assert_eq!(found, expected, "{at}");
}

/// Each rule of the listener leads where it should, to the same domain.
fn redirected(lb: &serde_json::Value, listen: &Listen, at: &str) {
    let listeners = lb["listeners"].as_array().unwrap();
    let on = |port: u16| listeners.iter().find(|l| l["port"] == port && l["protocol"] != "UDP").unwrap();
    let to = listen.redirect.map(|(_, status)| (on(443), status));
    let rules = on(listen.port)["rules"].as_array().unwrap();
    for rule in rules {
        let rewrite = &rule["rewrite"];
        let Some((to, status)) = to else {
            assert!(rewrite.is_null(), "{at}: {rule}");
            continue;
        };
        assert_eq!((&rewrite["listener"], &rewrite["code"]), (&to["id"], &status.into()), "{at}: {rule}");
        assert_eq!(rewrite["take_url"], true, "{at}: {rule}");
        let landing = to["rules"].as_array().unwrap().iter().find(|r| r["id"] == rewrite["location"]).unwrap();
        assert_eq!((&landing["domains"], &landing["url"]), (&rule["domains"], &"/".into()), "{at}: {rule}");
    }
    if let Some((to, _)) = to {
        let hosts = |l: &serde_json::Value| -> std::collections::BTreeSet<String> {
            l["rules"].as_array().unwrap().iter().map(|r| r["domains"].to_string()).collect()
        };
        assert_eq!(hosts(on(listen.port)), hosts(to), "{at}: not every domain is sent on");
    }
}

async fn everywhere(name: &str) {
    let scenario = SCENARIOS.iter().find(|s| s.name == name).unwrap();
    let calls = run(scenario, None, 0).await;
    assert!(calls > 3, "{name}: {calls} calls");
    for at in 1..=calls {
        for after in [false, true] {
            run(scenario, Some(Crash { at, after }), calls).await;
        }
    }
}

macro_rules! scenarios {
    ($($test:ident: $name:literal,)+) => {
        $(#[tokio::test(start_paused = true)]
        async fn $test() {
            everywhere($name).await;
        })+
        #[test]
        fn every_scenario_is_run() {
            let named = [$($name),+];
            assert!(SCENARIOS.iter().all(|s| named.contains(&s.name)));
        }
    };
}

scenarios! {
    creating_all: "create all",
    scaling: "scale",
    changing_health_checks: "health check",
    replacing_a_certificate: "certificate",
    a_certificate_by_its_id_instead: "certificate by id",
    changing_rules: "rules",
    changing_ports_and_names: "ports and names",
    draining: "drain",
    sending_clients_elsewhere: "redirect",
    sending_them_by_another_status: "another redirect",
    sending_them_to_pods_again: "no redirect",
    deleting: "delete",
}
