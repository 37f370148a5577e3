//! `directlb check`: what the cluster must have, as text or JSON.

use std::{collections::BTreeMap, io::Write as _, sync::Arc};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::{args::Output, clock::Clock, https, look::with_caches, tools::ToolError};
use crate::{
    controller::{Caches, ask_clouds, target_pods},
    gate::configuration::policies_served,
    prerequisites::{self, Facts, Verdict},
};

/// Prints the findings.
///
/// # Errors
/// When a check fails, or the API server does not answer.
pub async fn check(output: Output, controller_namespace: &str) -> Result<(), ToolError> {
    with_caches(controller_namespace, async |client, caches| {
        let findings = prerequisites::check(&facts(client, caches, controller_namespace).await?);
        let mut out = std::io::stdout();
        match output {
            Output::Text => write!(out, "{}", prerequisites::text(&findings))?,
            Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?,
        }
        let failed = findings.iter().filter(|f| f.verdict == Verdict::Failed).count();
        if failed == 0 { Ok(()) } else { Err(format!("checks that failed: {failed}").into()) }
    })
    .await
}

async fn facts(client: &Client, caches: &Caches, controller_namespace: &str) -> Result<Facts, ToolError> {
    let version = client.apiserver_version().await?;
    let clock = Clock::system();
    Ok(Facts {
        version: (number(&version.major), number(&version.minor)),
        policies: policies_served(client).await?,
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
