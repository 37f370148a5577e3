//! What `directlb plan` and `directlb check` look at: a cluster through the controller's own caches, filled once.

use std::time::Duration;

use futures::{StreamExt as _, stream::FuturesUnordered};
use kube::Client;

use super::tools::ToolError;
use crate::controller::{Caches, Triggers};

/// How long the API server has to list what there is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does `work` with filled caches.
///
/// # Errors
/// Those of `work`; or the API server does not answer.
pub(super) async fn with_caches<T>(
    controller_namespace: &str,
    work: impl AsyncFnOnce(&Client, &Caches) -> Result<T, ToolError>,
) -> Result<T, ToolError> {
    let client = Client::try_default().await?;
    let (triggers, _changes) = Triggers::new();
    let (caches, feeds) = Caches::new(&client, controller_namespace, &triggers);
    let mut feeds: FuturesUnordered<_> = feeds.into_iter().collect();
    let work = async {
        tokio::time::timeout(PATIENCE, caches.ready())
            .await
            .map_err(|_| format!("the API server has not listed everything within {PATIENCE:?}"))?
            .map_err(|_| "a watch has ended")?;
        work(&client, &caches).await
    };
    tokio::select! {
        result = work => result,
        () = async { while feeds.next().await.is_some() {} } => Err("every watch has ended".into()),
    }
}
