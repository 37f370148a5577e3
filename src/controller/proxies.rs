//! Which proxies a fleet has, and which of them are waited for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::{
    model::{ObjectKey, Time},
    provider::envoy::{EnvoyProvider, ExpectedProxy, REPORT_INTERVAL, reports::LastReport},
    status::{Fleet, Proxy, ProxyState},
};

/// Label on the proxies' Pods that names their fleet.
pub const FLEET_LABEL: &str = "directlb.io/fleet";

/// A proxy that has not reported for so long does not report: its last word is not believed any more.
const SILENT: Duration = Duration::from_secs(REPORT_INTERVAL.as_secs() * 10);

/// The proxies of a fleet: its Pods that are neither leaving nor done, and how each stands.
///
/// A proxy that reports and has no Pod here counts as well: the cache may be wrong, and what serves on that proxy must not be
/// judged by nobody.
///
/// `timeout` is how long a proxy that does not report is waited for, counted from its creation, from its last report,
/// or from `started` (when this controller began to listen), whichever is latest.
pub(crate) fn proxies(
    pods: &[Arc<Pod>],
    fleet: &str,
    reports: &BTreeMap<String, LastReport>,
    started: Time,
    timeout: Duration,
    now: Time,
) -> BTreeMap<String, ProxyState> {
    let mut all: BTreeMap<String, ProxyState> = pods
        .iter()
        .filter(|p| p.labels().get(FLEET_LABEL).is_some_and(|f| f == fleet))
        .filter(|p| p.metadata.deletion_timestamp.is_none() && !done(p))
        .map(|p| {
            let name = p.name_any();
            let last = reports.get(&name).map(|r| r.at);
            let state = match last {
                Some(at) if now.since(at) < SILENT => ProxyState::Reporting,
                _ => {
                    let born = p.creation_timestamp().map_or(Time(0), |t| Time(millis(t.0.as_millisecond())));
                    let since = born.max(started).max(last.unwrap_or(Time(0)));
                    if now.since(since) < timeout { ProxyState::Waiting } else { ProxyState::LeftOut }
                }
            };
            (name, state)
        })
        .collect();
    let here = |name: &str| pods.iter().any(|p| p.metadata.name.as_deref() == Some(name));
    let fresh = |r: &LastReport| r.fleet == fleet && now.since(r.at) < SILENT;
    for (name, _) in reports.iter().filter(|(name, r)| fresh(r) && !here(name)) {
        all.insert(name.clone(), ProxyState::Reporting);
    }
    all
}

fn millis(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

fn done(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// Where those that count listen: their nodes' addresses, as they are on the host's network.
pub(crate) fn addresses(pods: &[Arc<Pod>], states: &BTreeMap<String, ProxyState>) -> Vec<std::net::IpAddr> {
    let mut all: Vec<std::net::IpAddr> = pods
        .iter()
        .filter(|p| states.get(&p.name_any()).is_some_and(|s| *s != ProxyState::LeftOut))
        .filter_map(|p| p.status.as_ref()?.pod_ip.as_ref()?.parse().ok())
        .collect();
    all.sort();
    all
}

/// Those that count.
pub(crate) fn expected(states: &BTreeMap<String, ProxyState>) -> Vec<ExpectedProxy> {
    states
        .iter()
        .filter(|(_, s)| **s != ProxyState::LeftOut)
        .map(|(name, s)| ExpectedProxy { name: name.clone(), reporting: *s == ProxyState::Reporting })
        .collect()
}

/// The fleet as status shows it for one object.
pub(crate) fn fleet(
    id: &str,
    states: &BTreeMap<String, ProxyState>,
    provider: &EnvoyProvider,
    key: &ObjectKey,
) -> Fleet {
    let proxies = states
        .iter()
        .map(|(name, state)| {
            let missing = match state {
                ProxyState::Reporting => provider.missing_listeners(key, name),
                ProxyState::Waiting => provider.in_force_listeners(key),
                ProxyState::LeftOut => Vec::new(),
            };
            (name.clone(), Proxy { state: *state, missing, rejected: provider.reports().rejected(name) })
        })
        .collect();
    Fleet { id: id.into(), proxies }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;

    fn pod(name: &str, created: i64) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.labels = Some(BTreeMap::from([(FLEET_LABEL.to_owned(), "default".to_owned())]));
        pod.metadata.creation_timestamp = Some(MetaTime(jiff::Timestamp::from_second(created).unwrap()));
        Arc::new(pod)
    }

    fn report(name: &str, fleet: &str, at: u64) -> (String, LastReport) {
        (name.into(), LastReport { fleet: fleet.into(), at: Time(at) })
    }

    #[test]
    fn a_silent_proxy_is_waited_for_and_then_left_out() {
        let timeout = Duration::from_secs(60);
        let state = |last: Option<u64>, started: u64, now: u64| {
            let reports = last.map(|at| report("p", "default", at)).into_iter().collect();
            let got = proxies(&[pod("p", 100)], "default", &reports, Time(started), timeout, Time(now));
            *got.get("p").unwrap()
        };
        // Never reported: waited for from its creation at 100 s, or from the controller's start.
        assert_eq!(state(None, 0, 159_000), ProxyState::Waiting);
        assert_eq!(state(None, 0, 160_000), ProxyState::LeftOut);
        assert_eq!(state(None, 500_000, 559_000), ProxyState::Waiting);
        // Reported and fell silent.
        assert_eq!(state(Some(600_000), 0, 609_000), ProxyState::Reporting);
        assert_eq!(state(Some(600_000), 0, 611_000), ProxyState::Waiting);
        assert_eq!(state(Some(600_000), 0, 660_000), ProxyState::LeftOut);
    }

    #[test]
    fn other_fleets_and_leaving_pods_do_not_count() {
        let mut leaving = (*pod("a", 1)).clone();
        leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
        let pods = [Arc::new(leaving), pod("b", 1)];
        assert!(proxies(&pods, "other", &BTreeMap::new(), Time(0), Duration::ZERO, Time(9)).is_empty());
        let got = proxies(&pods, "default", &BTreeMap::new(), Time(0), Duration::ZERO, Time(9000));
        assert_eq!(got.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_proxy_that_reports_counts_though_its_pod_is_not_in_the_cache() {
        let reports = BTreeMap::from([report("p", "default", 1000), report("q", "other", 1000)]);
        let at = |now: u64| {
            let got = proxies(&[], "default", &reports, Time(0), Duration::ZERO, Time(now));
            got.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(at(2000), [("p".to_owned(), ProxyState::Reporting)]);
        assert_eq!(at(20_000), []);
        // One that is leaving does not count, whatever it says.
        let mut leaving = (*pod("p", 1)).clone();
        leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
        let pods = [Arc::new(leaving)];
        let got = proxies(&pods, "default", &reports, Time(0), Duration::ZERO, Time(2000));
        assert!(got.is_empty());
    }
}
