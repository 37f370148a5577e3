//! Serves snapshots to proxies: the delta variant of the aggregated discovery service (ADS).

mod stream;
#[cfg(test)]
mod tests;

use std::{pin::Pin, sync::Arc};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::AggregatedDiscoveryService,
};
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status, Streaming};

use super::{drains::Drains, fleet::Snapshot, reports::Reports};
use crate::model::Time;
use stream::StreamState;

/// The discovery service.
#[derive(Clone)]
pub struct Xds {
    snapshots: watch::Receiver<Snapshot>,
    reports: Reports,
    drains: Drains,
    clock: Arc<dyn Fn() -> Time + Send + Sync>,
}

impl Xds {
    /// Serves these snapshots.
    #[must_use]
    pub fn new(
        snapshots: watch::Receiver<Snapshot>,
        reports: Reports,
        drains: Drains,
        clock: Arc<dyn Fn() -> Time + Send + Sync>,
    ) -> Self {
        Self { snapshots, reports, drains, clock }
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Xds {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only the delta variant of ADS is served: set api_type DELTA_GRPC"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, receiver) = mpsc::channel(16);
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(status) = this.serve(request.into_inner(), &responses).await {
                // The peer may be gone already.
                let _ = responses.send(Err(status)).await;
            }
        });
        let stream = futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|item| (item, r)) });
        Ok(Response::new(Box::pin(stream)))
    }
}

impl Xds {
    async fn serve(
        mut self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        responses: &mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    ) -> Result<(), Status> {
        let mut state = StreamState::default();
        let mut node = String::new();
        let result = loop {
            let wake = state.wake_at().map(|at| at.since((self.clock)()));
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => {
                        let outcome = state.request(&request);
                        if node.is_empty() && !state.node().is_empty() {
                            node = state.node().to_owned();
                            tracing::info!(proxy = %node, fleet = %state.fleet(), "proxy connected");
                        }
                        if let Some(outcome) = &outcome {
                            if let Some(detail) = &outcome.rejected {
                                let kind = outcome.kind;
                                tracing::error!(proxy = %node, ?kind, %detail, "proxy refused its configuration");
                            }
                            self.drains.acked(&node, &outcome.endpoints, (self.clock)());
                        }
                        if !node.is_empty() {
                            self.reports.acked(&node, state.fleet(), state.acks());
                        }
                    }
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                },
                changed = self.snapshots.changed() => if changed.is_err() {
                    break Err(Status::unavailable("the controller is shutting down"));
                },
                () = sleep(wake) => {}
                () = responses.closed() => break Ok(()),
            }
            let snapshot = self.snapshots.borrow_and_update().clone();
            // Before the first snapshot a proxy keeps what it has.
            let Some(fleets) = snapshot else { continue };
            let empty = Arc::default();
            let resources = fleets.get(state.fleet()).unwrap_or(&empty);
            for response in state.respond(resources, (self.clock)()) {
                if responses.send(Ok(response)).await.is_err() {
                    break;
                }
            }
        };
        if !node.is_empty() {
            tracing::info!(proxy = %node, "proxy disconnected");
            self.reports.disconnected(&node);
        }
        result
    }
}

async fn sleep(wake: Option<std::time::Duration>) {
    match wake {
        Some(d) => tokio::time::sleep(d).await,
        None => std::future::pending().await,
    }
}
