//! The engine, the provider and the emulator in one process, under virtual time.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::in_process::InProcess;
use directlb::{
    model::Time,
    provider::tencent::{
        Answer, Binding, Client, Credentials, ListenerSettings, NewListener, NewLoadBalancer, NewRule, Place, Read,
        Tencent, Write, limits,
    },
    runtime::clock::Clock,
    sync::{Action, Engine, ErrorKind, Limits, Observer},
};
use e2e::tencent::{Emulator, Settings};

/// Calls, and how many of them wrote.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) all: usize,
    pub(crate) writes: usize,
}

#[derive(Default)]
struct Counter(Mutex<Calls>);

impl Observer for Counter {
    fn called(&self, action: Action, _: Result<(), ErrorKind>, _: Duration) {
        let mut calls = self.0.lock().unwrap();
        calls.all += 1;
        calls.writes += usize::from(!action.starts_with("Describe"));
    }
}

/// How calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// One call at a time with one item in it, each awaited.
    Naive,
    /// Batches of items; queries are not merged, and one call is made after the other.
    Batched,
    /// As the product does.
    Engine,
}

impl Strategy {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Batched => "batched",
            Self::Engine => "engine",
        }
    }

    fn limits(self) -> Limits {
        match self {
            Self::Naive => Limits { in_flight: 1, ..limits().unbatched() },
            Self::Batched => {
                let mut limits = Limits { in_flight: 1, tasks_per_poll: 1, ..limits() };
                limits.actions.iter_mut().filter(|(a, _)| a.starts_with("Describe")).for_each(|(_, l)| l.batch = 1);
                limits
            }
            Self::Engine => limits(),
        }
    }
}

const START: u64 = 1_800_000_000;

pub(crate) struct World {
    pub(crate) emulator: Emulator,
    pub(crate) engine: Engine<Tencent<InProcess>>,
    counter: Arc<Counter>,
    strategy: Strategy,
    clock: Clock,
}

impl World {
    /// A cloud without limits on numbers, and an engine.
    pub(crate) fn new(strategy: Strategy) -> Self {
        let mut settings = Settings { start: START, ..Settings::default() };
        settings.quotas.values_mut().for_each(|q| *q = 1_000_000);
        Self::of(Emulator::new(settings), strategy, Clock::starting_at(Time(START * 1000)))
    }

    /// Another engine on the same cloud: a restart of the controller.
    pub(crate) fn restarted(&self, strategy: Strategy) -> Self {
        Self::of(self.emulator.clone(), strategy, self.clock.clone())
    }

    fn of(emulator: Emulator, strategy: Strategy, clock: Clock) -> Self {
        let credentials =
            Credentials { secret_id: "AKIDemulator".into(), secret_key: "emulator-secret".into(), token: None };
        let transport = InProcess(emulator.clone());
        let client = Client::new(transport, "clb.tencentcloudapi.com", "ap-guangzhou", credentials, clock.as_fn());
        let counter = Arc::new(Counter::default());
        let engine = Engine::new(Tencent::new(client), strategy.limits(), 1, clock.clone(), counter.clone());
        Self { emulator, engine, counter, strategy, clock }
    }

    /// Time since the cloud was made.
    pub(crate) fn age(&self) -> Duration {
        self.clock.elapsed()
    }

    pub(crate) fn calls(&self) -> Calls {
        *self.counter.0.lock().unwrap()
    }

    /// Writes that must succeed.
    pub(crate) async fn write(&self, lane: &str, items: Vec<Write>) -> Vec<String> {
        let results = self.engine.write(lane, items).await;
        results.into_iter().map(|r| r.unwrap_or_else(|e| panic!("{lane}: {e}"))).collect()
    }

    pub(crate) async fn load_balancer(&self, name: &str) -> String {
        let new = NewLoadBalancer {
            load_balancer_type: "OPEN".into(),
            load_balancer_name: name.into(),
            vpc_id: "vpc-emulator".into(),
            client_token: name.into(),
            ..NewLoadBalancer::default()
        };
        self.write(&format!("create/{name}"), vec![Write::CreateLoadBalancer(Box::new(new))]).await.remove(0)
    }

    /// HTTP listeners with 50 rules each.
    pub(crate) async fn rules(&self, lb: &str, rules: usize) -> Vec<Place> {
        let listeners = rules.div_ceil(50);
        let new = (0..listeners).map(|n| {
            let settings = ListenerSettings { protocol: "HTTP".into(), ..ListenerSettings::default() };
            let port = u16::try_from(8000 + n).unwrap();
            Write::CreateListener(Box::new(NewListener { name: format!("http-{n}"), port, settings }))
        });
        let ids = self.write(lb, new.collect()).await;
        let new = (0..rules).map(|n| Write::CreateRule {
            listener: ids[n / 50].clone(),
            rule: Box::new(NewRule { domain: format!("shop-{n}.example.com"), url: "/".into(), ..NewRule::default() }),
        });
        let locations = self.write(lb, new.collect()).await;
        let place = |(n, id): (usize, String)| Place { listener: ids[n / 50].clone(), location: Some(id) };
        locations.into_iter().enumerate().map(place).collect()
    }

    /// A TCP listener.
    pub(crate) async fn tcp(&self, lb: &str) -> Place {
        let settings = ListenerSettings { protocol: "TCP".into(), ..ListenerSettings::default() };
        let new = NewListener { name: "tcp".into(), port: 443, settings };
        let id = self.write(lb, vec![Write::CreateListener(Box::new(new))]).await.remove(0);
        Place { listener: id, location: None }
    }

    /// Looks, registers what is missing, and looks whether it is there: what a reconcile does.
    pub(crate) async fn converge(&self, lb: &str, wanted: &[Binding]) {
        let missing = self.missing(lb, wanted).await;
        let items = missing.into_iter().map(|binding| Write::Register { binding, weight: 10, tag: "pod".into() });
        self.write(lb, items.collect()).await;
        assert!(self.missing(lb, wanted).await.is_empty(), "{lb} has not converged");
    }

    pub(crate) async fn missing(&self, lb: &str, wanted: &[Binding]) -> Vec<Binding> {
        let there: BTreeSet<Binding> = if self.strategy == Strategy::Engine {
            match self.engine.read(Read::Health(lb.into())).await.unwrap() {
                Answer::Health(there) => there.into_keys().collect(),
                _ => panic!("not an answer to the question"),
            }
        } else {
            // Without merging, one listener after the other.
            let listeners: BTreeSet<&String> = wanted.iter().map(|b| &b.place.listener).collect();
            let mut there = BTreeSet::new();
            for listener in listeners {
                let query = Read::Targets { load_balancer: lb.into(), listener: listener.clone() };
                match self.engine.read(query).await.unwrap() {
                    Answer::Targets(of_listener) => there.extend(of_listener.into_keys()),
                    _ => panic!("not an answer to the question"),
                }
            }
            there
        };
        wanted.iter().filter(|b| !there.contains(b)).cloned().collect()
    }
}

/// Each of these Pods at each of these places.
pub(crate) fn bindings(places: &[Place], pods: usize) -> Vec<Binding> {
    let ip = |n: usize| IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + u32::try_from(n).unwrap()));
    places
        .iter()
        .flat_map(|place| (0..pods).map(move |n| Binding { place: place.clone(), ip: ip(n), port: 8080 }))
        .collect()
}

/// Time and calls of something.
pub(crate) async fn measured<F: Future<Output = ()>>(world: &World, work: F) -> (Duration, Calls) {
    let (begun, before) = (world.age(), world.calls());
    work.await;
    let after = world.calls();
    (world.age() - begun, Calls { all: after.all - before.all, writes: after.writes - before.writes })
}
