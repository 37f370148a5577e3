//! Logs and metrics.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::args::LogFormat;
use crate::{
    api::Reason,
    sync::{Action, ErrorKind, Observer},
};

/// Starts logging to standard error; `RUST_LOG` chooses what (default `info`).
pub fn init_logs(format: LogFormat) {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube=warn"));
    let logs = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second initialisation (in tests) is no error worth stopping for.
    let _ = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
}

/// Every metric of the controller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    reconciles: IntCounterVec,
    reconcile_seconds: Histogram,
    steps: IntCounterVec,
    holds: IntGaugeVec,
    gate_flips: IntCounterVec,
    gate_seconds: Histogram,
    drain_seconds: Histogram,
    targets: IntGaugeVec,
    proxies: IntGaugeVec,
    leader: IntGauge,
    objects: IntGaugeVec,
    admissions: IntCounterVec,
    cloud_calls: IntCounterVec,
    cloud_seconds: Histogram,
    cloud_troubles: IntGaugeVec,
    spec_problems: IntGaugeVec,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When two metrics have the same name: a programming error.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let fast = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let c = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(c.clone()))?;
            Ok::<_, prometheus::Error>(c)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let g = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(g.clone()))?;
            Ok::<_, prometheus::Error>(g)
        };
        let histogram = |name: &str, help: &str| {
            let h = Histogram::with_opts(HistogramOpts::new(name, help).buckets(fast.clone()))?;
            registry.register(Box::new(h.clone()))?;
            Ok::<_, prometheus::Error>(h)
        };
        let leader = IntGauge::new("directlb_leader", "1 if this replica writes to Kubernetes, else 0.")?;
        registry.register(Box::new(leader.clone()))?;
        let inner = Inner {
            reconciles: counter(
                "directlb_reconciles_total",
                "Reconciles by result (ok, or the error's kind).",
                &["result"],
            )?,
            reconcile_seconds: histogram("directlb_reconcile_duration_seconds", "Duration of a reconcile.")?,
            steps: counter("directlb_plan_steps_total", "Steps applied, by kind.", &["step"])?,
            holds: gauge("directlb_plan_holds", "Steps held back now, by reason.", &["namespace", "name", "reason"])?,
            gate_flips: counter(
                "directlb_gate_flips_total",
                "Readiness-gate conditions written, by status and reason.",
                &["status", "reason"],
            )?,
            gate_seconds: histogram(
                "directlb_gate_open_latency_seconds",
                "From the last proxy's first healthy report of a Pod to its gate condition True.",
            )?,
            drain_seconds: histogram(
                "directlb_drain_start_latency_seconds",
                "From the plan in which a Pod stops taking new traffic to the acknowledgement of each proxy connected here.",
            )?,
            targets: gauge("directlb_targets", "Target Pods by state.", &["namespace", "name", "state"])?,
            proxies: gauge("directlb_proxies", "Proxies by state.", &["fleet", "state"])?,
            objects: gauge("directlb_objects", "DirectLoadBalancers by readiness.", &["ready"])?,
            admissions: counter(
                "directlb_admissions_total",
                "Admission requests by webhook and outcome.",
                &["webhook", "outcome"],
            )?,
            cloud_calls: counter(
                "directlb_cloud_calls_total",
                "Calls of a cloud's API by action and outcome (ok, or the error's kind).",
                &["action", "outcome"],
            )?,
            cloud_seconds: histogram("directlb_cloud_call_duration_seconds", "Duration of a call of a cloud's API.")?,
            spec_problems: gauge(
                "directlb_spec_problems",
                "What is wrong with an object's spec, or with what it names, by reason.",
                &["namespace", "name", "reason"],
            )?,
            cloud_troubles: gauge(
                "directlb_cloud_troubles",
                "What goes wrong with an object's load balancer in the cloud now, by reason.",
                &["namespace", "name", "reason"],
            )?,
            leader,
            registry,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The registry, for modules with metrics of their own.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }
    /// A reconcile ended.
    pub fn reconciled(&self, result: &str, seconds: f64) {
        self.0.reconciles.with_label_values(&[result]).inc();
        self.0.reconcile_seconds.observe(seconds);
    }
    /// A step was applied.
    pub fn step(&self, kind: &str) {
        self.0.steps.with_label_values(&[kind]).inc();
    }
    /// A gate condition was written.
    pub fn gate(&self, open: bool, reason: &str) {
        self.0.gate_flips.with_label_values(&[if open { "True" } else { "False" }, reason]).inc();
    }
    /// How long a gate took to open.
    pub fn gate_opened_after(&self, seconds: f64) {
        self.0.gate_seconds.observe(seconds);
    }
    /// How long it took until a leaving Pod took no new traffic on a proxy.
    pub fn drain_started_after(&self, seconds: f64) {
        self.0.drain_seconds.observe(seconds);
    }
    /// How many steps of an object are held back.
    pub fn held(&self, namespace: &str, name: &str, reason: &str, n: usize) {
        self.0.holds.with_label_values(&[namespace, name, reason]).set(int(n));
    }
    /// How much goes wrong with an object's load balancer, by reason; what is not named goes well.
    pub fn cloud_troubles(&self, namespace: &str, name: &str, troubles: &BTreeMap<&str, usize>) {
        by_reason(&self.0.cloud_troubles, namespace, name, troubles, Reason::is_cloud);
    }
    /// How much is wrong with an object's spec, by reason; what is not named is right.
    pub fn spec_problems(&self, namespace: &str, name: &str, problems: &BTreeMap<&str, usize>) {
        by_reason(&self.0.spec_problems, namespace, name, problems, |r| !r.is_cloud());
    }
    /// An object's targets.
    pub fn targets(&self, namespace: &str, name: &str, counts: &crate::api::TargetCounts) {
        for (state, n) in [
            ("desired", counts.desired),
            ("registered", counts.registered),
            ("healthy", counts.healthy),
            ("draining", counts.draining),
            ("ungated", counts.ungated),
        ] {
            self.0.targets.with_label_values(&[namespace, name, state]).set(n.into());
        }
    }
    /// An object is gone: so are its series.
    pub fn forget(&self, namespace: &str, name: &str) {
        for state in ["desired", "registered", "healthy", "draining", "ungated"] {
            let _ = self.0.targets.remove_label_values(&[namespace, name, state]);
        }
        for reason in ["LastServingTarget", "MassRemoval", "ReplacementNotServing"] {
            let _ = self.0.holds.remove_label_values(&[namespace, name, reason]);
        }
        self.cloud_troubles(namespace, name, &BTreeMap::new());
        self.spec_problems(namespace, name, &BTreeMap::new());
    }
    /// A fleet's proxies in a state.
    pub fn proxies(&self, fleet: &str, state: &str, n: usize) {
        self.0.proxies.with_label_values(&[fleet, state]).set(int(n));
    }
    /// Whether this replica leads.
    pub fn leading(&self, leading: bool) {
        self.0.leader.set(i64::from(leading));
    }
    /// How many objects are ready, and how many not.
    pub fn objects(&self, ready: usize, not_ready: usize) {
        self.0.objects.with_label_values(&["true"]).set(int(ready));
        self.0.objects.with_label_values(&["false"]).set(int(not_ready));
    }
    /// An admission request was answered.
    pub fn admission(&self, webhook: &str, outcome: &str) {
        self.0.admissions.with_label_values(&[webhook, outcome]).inc();
    }
    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric cannot be encoded: a programming error.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.0.registry.gather())
    }
}

fn by_reason(
    gauge: &IntGaugeVec,
    namespace: &str,
    name: &str,
    counts: &BTreeMap<&str, usize>,
    among: impl Fn(Reason) -> bool,
) {
    for reason in Reason::ALL.iter().filter(|r| among(**r)) {
        let labels = [namespace, name, reason.as_str()];
        match counts.get(reason.as_str()) {
            Some(n) => gauge.with_label_values(&labels).set(int(*n)),
            None => _ = gauge.remove_label_values(&labels),
        }
    }
}

fn int(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Observer for Metrics {
    fn called(&self, action: Action, outcome: Result<(), ErrorKind>, took: Duration) {
        let outcome = outcome.map_or_else(ErrorKind::as_str, |()| "ok");
        self.0.cloud_calls.with_label_values(&[action, outcome]).inc();
        self.0.cloud_seconds.observe(took.as_secs_f64());
    }
}
