//! Leader election by a `coordination.k8s.io/v1` Lease.
//!
//! As client-go does it: whoever finds the Lease expired takes it; others' renewals are timed by when they are *seen*, so that
//! the clocks of two machines never matter; a leader that could not renew steps down before anybody else may take over.
//! Written here, on tokio's time, so that the whole controller runs under virtual time.

use std::{future::Future, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::clock::Clock;
use crate::model::Time;

/// How a Lease is held.
#[derive(Clone, Copy, Debug)]
pub struct LeaseConfig {
    /// Nobody else may take a Lease that was renewed less than so long ago.
    pub duration: Duration,
    /// A leader that could not renew for so long steps down; less than `duration`.
    pub deadline: Duration,
    /// Time between attempts.
    pub retry: Duration,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self { duration: Duration::from_secs(15), deadline: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// A candidate.
pub struct Candidate {
    /// The API.
    pub client: Client,
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who this is; unique.
    pub identity: String,
    /// How it is held.
    pub config: LeaseConfig,
    /// The clock.
    pub clock: Clock,
}

/// What was last seen of somebody else's hold.
#[derive(Default)]
struct Seen {
    version: Option<String>,
    at: Time,
}

impl Candidate {
    /// Tries to lead, and leads, until `shutdown`; then gives the Lease back, so that the next leads at once.
    pub async fn run(self, leading: watch::Sender<bool>, shutdown: impl Future<Output = ()>) {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        tokio::select! {
            () = self.campaign(&api, &leading) => {}
            () = shutdown => {}
        }
        let led = leading.send_replace(false);
        if led && let Err(error) = self.release(&api).await {
            tracing::info!(%error, "the Lease was not given back: it expires");
        }
    }

    async fn campaign(&self, api: &Api<Lease>, leading: &watch::Sender<bool>) {
        let mut seen = Seen::default();
        let mut renewed: Option<Time> = None;
        loop {
            let begun = self.clock.now();
            // A call that hangs must not outlive the leadership.
            let attempt = timeout(self.config.deadline / 2, self.attempt(api, &mut seen)).await;
            match attempt {
                Ok(Ok(true)) => {
                    renewed = Some(begun);
                    leading.send_if_modified(|l| !std::mem::replace(l, true));
                }
                Ok(Ok(false)) => {
                    renewed = None;
                    if leading.send_if_modified(|l| std::mem::replace(l, false)) {
                        tracing::warn!("somebody else holds the Lease");
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "Lease"),
                Err(_) => tracing::warn!("Lease: no answer"),
            }
            let late = renewed.is_none_or(|at| self.clock.now().since(at) >= self.config.deadline);
            if late && leading.send_if_modified(|l| std::mem::replace(l, false)) {
                tracing::warn!("the Lease could not be renewed in time: stepping down");
                renewed = None;
            }
            sleep(self.config.retry).await;
        }
    }

    /// One attempt to take or renew; whether this candidate holds the Lease afterwards.
    async fn attempt(&self, api: &Api<Lease>, seen: &mut Seen) -> Result<bool, kube::Error> {
        let now = self.clock.now();
        let Some(lease) = api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None, now)),
            };
            return match api.create(&PostParams::default(), &lease).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(s)) if s.is_already_exists() || s.is_conflict() => Ok(false),
                Err(e) => Err(e),
            };
        };
        let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref()).unwrap_or_default();
        let mine = holder == self.identity;
        if !mine && !holder.is_empty() {
            if seen.version != lease.metadata.resource_version {
                *seen = Seen { version: lease.metadata.resource_version.clone(), at: now };
            }
            let theirs = lease.spec.as_ref().and_then(|s| s.lease_duration_seconds).unwrap_or(15);
            let duration = Duration::from_secs(u64::try_from(theirs).unwrap_or(15)).max(self.config.duration);
            if now.since(seen.at) < duration {
                return Ok(false);
            }
        }
        let next = Lease { metadata: lease.metadata.clone(), spec: Some(self.spec(lease.spec.as_ref(), now)) };
        // The resourceVersion makes two candidates who try at once see who was first.
        match api.replace(&self.name, &PostParams::default(), &next).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(s)) if s.is_conflict() => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>, now: Time) -> LeaseSpec {
        let time = micro(now);
        let mine = before.is_some_and(|b| b.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.and_then(|b| b.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.config.duration.as_secs()).ok(),
            acquire_time: before.filter(|_| mine).and_then(|b| b.acquire_time.clone()).or(Some(time.clone())),
            renew_time: Some(time),
            lease_transitions: Some(if mine { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }

    async fn release(&self, api: &Api<Lease>) -> Result<(), kube::Error> {
        let Some(mut lease) = api.get_opt(&self.name).await? else { return Ok(()) };
        let Some(spec) = &mut lease.spec else { return Ok(()) };
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        api.replace(&self.name, &PostParams::default(), &lease).await.map(|_| ())
    }
}

fn micro(t: Time) -> MicroTime {
    let ms = i64::try_from(t.0).unwrap_or(0);
    MicroTime(jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        convert::Infallible,
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, Ordering},
        },
    };

    use http::{Method, Request, Response, StatusCode};
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An API server that knows one Lease.
    #[derive(Clone, Default)]
    struct Fake {
        lease: Arc<Mutex<Option<Value>>>,
        broken: Arc<AtomicBool>,
    }

    impl Fake {
        async fn serve(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            if self.broken.load(Ordering::Relaxed) {
                // Never answers.
                std::future::pending::<()>().await;
            }
            let mut lease = self.lease.lock().unwrap();
            let failure = |code: u16, reason: &str| {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
                Response::builder()
                    .status(StatusCode::from_u16(code).unwrap())
                    .body(Body::from(status.to_string().into_bytes()))
                    .unwrap()
            };
            let ok = |v: &Value| Response::new(Body::from(v.to_string().into_bytes()));
            Ok(match (parts.method, lease.as_mut()) {
                (Method::GET, Some(l)) => ok(l),
                (Method::GET, None) => failure(404, "NotFound"),
                (Method::POST, Some(_)) => failure(409, "AlreadyExists"),
                (Method::POST, None) => {
                    let mut l: Value = serde_json::from_slice(&body).unwrap();
                    l["metadata"]["resourceVersion"] = json!("1");
                    *lease = Some(l.clone());
                    ok(&l)
                }
                (_, Some(l)) => {
                    let mut new: Value = serde_json::from_slice(&body).unwrap();
                    if new["metadata"]["resourceVersion"] != l["metadata"]["resourceVersion"] {
                        return Ok(failure(409, "Conflict"));
                    }
                    let v: u64 = l["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
                    new["metadata"]["resourceVersion"] = json!((v + 1).to_string());
                    *l = new.clone();
                    ok(&new)
                }
                (_, None) => failure(404, "NotFound"),
            })
        }

        fn candidate(&self, identity: &str) -> (Candidate, watch::Sender<bool>, watch::Receiver<bool>) {
            let fake = self.clone();
            let client = Client::new(tower::service_fn(move |r| fake.clone().serve(r)), "default");
            let (tx, rx) = watch::channel(false);
            let candidate = Candidate {
                client,
                namespace: "ns".into(),
                name: "lease".into(),
                identity: identity.into(),
                config: LeaseConfig::default(),
                clock: Clock::starting_at(Time(1_000_000)),
            };
            (candidate, tx, rx)
        }
    }

    async fn seconds(n: u64) {
        tokio::time::sleep(Duration::from_secs(n)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_another_takes_over_within_twenty_seconds_of_a_kill() {
        let fake = Fake::default();
        let (a, tx_a, a_leads) = fake.candidate("a");
        let (b, tx_b, b_leads) = fake.candidate("b");
        let killed = tokio::spawn(a.run(tx_a, std::future::pending()));
        seconds(1).await;
        tokio::spawn(b.run(tx_b, std::future::pending()));
        for _ in 0..60 {
            seconds(1).await;
            assert!(*a_leads.borrow() && !*b_leads.borrow());
        }
        killed.abort();
        let mut waited = 0;
        while !*b_leads.borrow() {
            seconds(1).await;
            waited += 1;
            assert!(waited < 20, "nobody leads");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_lease_is_taken_at_once() {
        let fake = Fake::default();
        let (a, tx_a, a_leads) = fake.candidate("a");
        let (b, tx_b, b_leads) = fake.candidate("b");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(a.run(tx_a, async move {
            let _ = stopped.await;
        }));
        seconds(1).await;
        assert!(*a_leads.borrow());
        tokio::spawn(b.run(tx_b, std::future::pending()));
        seconds(5).await;
        stop.send(()).unwrap();
        running.await.unwrap();
        assert!(!*a_leads.borrow());
        seconds(3).await;
        assert!(*b_leads.borrow());
    }

    /// A leader cut off from the API steps down before the other may take over.
    #[tokio::test(start_paused = true)]
    async fn two_never_lead_at_once() {
        let fake = Fake::default();
        // The same Lease over a line of its own that can be cut.
        let cut = Fake { lease: fake.lease.clone(), broken: Arc::default() };
        let (a, tx_a, a_leads) = cut.candidate("a");
        let (b, tx_b, b_leads) = fake.candidate("b");
        tokio::spawn(a.run(tx_a, std::future::pending()));
        seconds(1).await;
        tokio::spawn(b.run(tx_b, std::future::pending()));
        seconds(30).await;
        cut.broken.store(true, Ordering::Relaxed);
        for _ in 0..400 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!(*a_leads.borrow() && *b_leads.borrow()), "two leaders");
        }
        assert!(*b_leads.borrow() && !*a_leads.borrow());
    }
}
