//! Controllers that are killed, and controllers that are away.

use std::process::Command;

use e2e::{
    Namespace, SYSTEM, chart, client, cluster, eventually, namespace::condition_of, need_cluster, pause, secs, yaml,
};

fn leader() -> String {
    cluster().get(&["lease", "directlb", "-n", SYSTEM])["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Kills a Pod's process by SIGKILL, from outside.
fn sigkill(pod: &str) {
    let object = cluster().get(&["pod", pod, "-n", SYSTEM]);
    let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
    let id = object["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().to_owned();
    let id = id.rsplit('/').next().unwrap().to_owned();
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let cgroups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroups.contains(&id) || (cgroups.contains(&uid) && cgroups.contains(&id[..12])) {
            assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
            killed += 1;
        }
    }
    assert!(killed > 0, "no process of {pod} was found");
}

#[test]
fn the_leader_is_killed_in_the_middle_of_a_scale_up() {
    need_cluster!();
    let ns = Namespace::new("leaderkill");
    ns.apply(&yaml::http_lb("web"));
    ns.apply(&yaml::deployment("web", 2, &[]));
    ns.rolled_out("deployment/web");
    let a = ns.wait_ready("web", 2);
    let load = client::start(&["http", "--url", &format!("http://{a}/"), "--rate", "100", "--duration", "30s"]);
    ns.kubectl(&["scale", "deployment/web", "--replicas=6"]);
    let before = leader();
    sigkill(&before);
    // Its container would be started again within a second, and go on leading: so its Pod goes too, without a goodbye.
    cluster().kubectl(&["delete", "pod", &before, "-n", SYSTEM, "--force", "--grace-period=0"]);
    eventually("another replica leads", secs(20), || {
        let now = leader();
        if now != before && !now.is_empty() { Ok(()) } else { Err(now) }
    });
    let address = ns.wait_ready("web", 6);
    assert_eq!(address, a, "the address changed");
    let report = load.report().ok();
    assert!(report.requests > 2000, "{}", report.raw);
    let after = client::run(&["http", "--url", &format!("http://{a}/"), "--n", "120"]).ok();
    assert_eq!(after.by_pod.len(), 6, "{:?}", after.by_pod);
    chart::controllers_run(2);
}

#[test]
fn both_controllers_are_away_for_a_while() {
    need_cluster!();
    let ns = Namespace::new("away");
    ns.apply(&yaml::http_lb("web"));
    ns.apply(&yaml::deployment("web", 2, &[]));
    ns.rolled_out("deployment/web");
    let a = ns.wait_ready("web", 2);
    let load = client::start(&["http", "--url", &format!("http://{a}/"), "--rate", "50", "--duration", "90s"]);
    chart::scale_controllers(0);
    ns.kubectl(&["scale", "deployment/web", "--replicas=4"]);
    pause(secs(20));
    chart::scale_controllers(2);
    assert_eq!(ns.wait_ready("web", 4), a, "the address changed");
    let report = load.report().ok();
    assert!(report.requests > 4000, "{}", report.raw);
    let object = ns.get(&["directloadbalancer", "web"]);
    // The API server put the gates into those that were made meanwhile.
    assert_eq!(object["status"]["targets"]["ungated"], 0, "{}", object["status"]);
    assert_eq!(condition_of(&object, "TargetsReady").1, "AllHealthy");
}
