//! Proxies that come late, and proxies that stay away.

use e2e::{Namespace, client, cluster, need_cluster, secs, yaml};

struct Cable;
impl Drop for Cable {
    fn drop(&mut self) {
        cluster().lab(&["cable", "edge2", "up"]);
        cluster().lab(&["route", "all"]);
    }
}

#[test]
fn a_proxy_that_stays_away_is_left_out_and_said() {
    need_cluster!();
    let ns = Namespace::new("leftout");
    ns.apply(&yaml::http_lb("web"));
    ns.apply(&yaml::deployment("web", 2, &[]));
    ns.rolled_out("deployment/web");
    let a = ns.wait_ready("web", 2);
    let cable = Cable;
    cluster().lab(&["route", "without", "edge2"]);
    cluster().lab(&["cable", "edge2", "down"]);
    ns.wait_condition("web", "ProxiesReady", "False", "WaitingForProxies");
    // Waited for: no new Pod opens its gate before the stated time (25 s in the tests' values) is over.
    ns.kubectl(&["scale", "deployment/web", "--replicas=3"]);
    let message = ns.wait_condition("web", "ProxiesReady", "False", "ProxyLeftOut");
    assert!(message.contains("did not report in time"), "{message}");
    ns.wait_ready_within("web", 3, secs(60));
    let _ = client::run(&["http", "--url", &format!("http://{a}/"), "--n", "50", "--new-conn"]).ok();
    drop(cable);
    ns.wait_condition("web", "ProxiesReady", "True", "AllReporting");
    ns.wait_ready("web", 3);
    let _ = client::run(&["http", "--url", &format!("http://{a}/"), "--n", "50", "--new-conn"]).ok();
}
