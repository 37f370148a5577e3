//! `directlb check`: what the cluster must have, as text or JSON.

use std::{collections::BTreeMap, io::Write as _, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::{args::Output, clock::Clock, https, tools::ToolError};
use crate::{
    controller::{Caches, Triggers, ask_clouds, target_pods},
    prerequisites::{self, Facts, Verdict},
};

/// How long the API server has to list what there is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints the findings.
///
/// # Errors
/// When a check fails, or the API server does not answer.
pub async fn check(output: Output, controller_namespace: &str) -> Result<(), ToolError> {
    let client = Client::try_default().await?;
    let (triggers, _changes) = Triggers::new();
    let (caches, feeds) = Caches::new(&client, controller_namespace, &triggers);
    let mut feeds: FuturesUnordered<_> = feeds.into_iter().collect();
    let work = async {
        tokio::time::timeout(PATIENCE, caches.ready())
            .await
            .map_err(|_| format!("the API server has not listed everything within {PATIENCE:?}"))?
            .map_err(|_| "a watch has ended")?;
        let findings = prerequisites::check(&facts(&client, &caches, controller_namespace).await?);
        let mut out = std::io::stdout();
        match output {
            Output::Text => write!(out, "{}", prerequisites::text(&findings))?,
            Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?,
        }
        let failed = findings.iter().filter(|f| f.verdict == Verdict::Failed).count();
        if failed == 0 { Ok(()) } else { Err(format!("checks that failed: {failed}").into()) }
    };
    tokio::select! {
        result = work => result,
        () = async { while feeds.next().await.is_some() {} } => Err("every watch has ended".into()),
    }
}

async fn facts(client: &Client, caches: &Caches, controller_namespace: &str) -> Result<Facts, ToolError> {
    let version = client.apiserver_version().await?;
    let served = client.list_api_group_resources("admissionregistration.k8s.io/v1").await?;
    let clock = Clock::system();
    Ok(Facts {
        version: (number(&version.major), number(&version.minor)),
        policies: served.resources.iter().any(|r| r.name == "mutatingadmissionpolicies"),
        cce_network: config_map(client, "cce-cni-node-agent").await?,
        masquerade: config_map(client, "cce-ip-masq-agent").await?,
        objects: target_pods(caches, clock.now()),
        services: caches.services.state(),
        clouds: ask_clouds(caches, controller_namespace, Arc::new(https::connect), &clock).await,
    })
}

/// A version's part: clouds write `30+`.
fn number(text: &str) -> u32 {
    text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default()
}

async fn config_map(client: &Client, name: &str) -> Result<Option<BTreeMap<String, String>>, ToolError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    Ok(api.get_opt(name).await?.map(|c| c.data.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn versions_of_clouds_are_numbers_too() {
        assert_eq!([number("36"), number("30+"), number("")], [36, 30, 0]);
    }
}
