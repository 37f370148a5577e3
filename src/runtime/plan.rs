//! `directlb plan`: what applying objects would change, as text.

use std::{io::Write as _, sync::Arc};

use kube::ResourceExt as _;

use super::{clock::Clock, https, look::with_caches, tools::ToolError};
use crate::{
    api::{DirectLoadBalancer, validate},
    controller::{Preview, preview},
};

/// Prints what applying the objects in a file would change. Nothing is written, to Kubernetes or to a cloud.
///
/// # Errors
/// When the file cannot be read, holds no object or a bad one, or the API server or the cloud does not answer.
pub async fn plan(filename: &str, namespace: &str, controller_namespace: &str) -> Result<(), ToolError> {
    let text =
        if filename == "-" { std::io::read_to_string(std::io::stdin())? } else { std::fs::read_to_string(filename)? };
    let objects = objects(&text, namespace)?;
    with_caches(controller_namespace, async |_, caches| {
        let clock = Clock::system();
        let mut out = std::io::stdout();
        let mut bad = false;
        for object in objects {
            let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
            let wrong = validate::spec(&object.spec);
            if !wrong.is_empty() {
                bad = true;
                writeln!(out, "{name}")?;
                wrong.iter().try_for_each(|v| writeln!(out, "  ! {v}"))?;
                continue;
            }
            let shown = preview(caches, controller_namespace, Arc::new(https::connect), &clock, object)
                .await
                .map_err(|e| format!("{name}: {e}"))?;
            bad |= !shown.problems.is_empty();
            write!(out, "{}", describe(&name, &shown))?;
        }
        if bad { Err("an object is not accepted as it is".into()) } else { Ok(()) }
    })
    .await
}

/// The objects of a file; documents of other kinds are passed over.
fn objects(text: &str, namespace: &str) -> Result<Vec<DirectLoadBalancer>, ToolError> {
    let mut out = Vec::new();
    for document in serde_saphyr::from_multiple::<serde_json::Value>(text)? {
        if document["kind"] != "DirectLoadBalancer" {
            continue;
        }
        let name = document["metadata"]["name"].as_str().unwrap_or("(without a name)").to_owned();
        let mut object: DirectLoadBalancer =
            serde_json::from_value(document).map_err(|e| format!("DirectLoadBalancer {name}: {e}"))?;
        object.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
        out.push(object);
    }
    if out.is_empty() { Err("the file holds no DirectLoadBalancer".into()) } else { Ok(out) }
}

fn describe(name: &str, shown: &Preview) -> String {
    let carrier = if shown.carrier.is_empty() { "no load balancer yet" } else { &shown.carrier };
    let mut text = format!("{name} (class {}, {carrier})\n", shown.class.as_deref().unwrap_or("none"));
    let mut lines = |mark: char, all: &[String]| all.iter().for_each(|l| text.push_str(&format!("  {mark} {l}\n")));
    lines('!', &shown.problems);
    lines('+', &shown.steps);
    lines('~', &shown.holds);
    if shown.steps.is_empty() && shown.holds.is_empty() {
        text.push_str("  nothing to do\n");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_files_objects() {
        let text = "kind: Secret\nmetadata: {name: s}\n---\napiVersion: directlb.io/v1alpha1\nkind: DirectLoadBalancer\n\
                    metadata: {name: web}\nspec: {listeners: []}\n";
        let all = objects(text, "shop").unwrap();
        assert_eq!((all[0].name_any().as_str(), all[0].namespace().as_deref()), ("web", Some("shop")));
        assert!(objects("kind: Secret", "shop").unwrap_err().to_string().contains("no DirectLoadBalancer"));
        let bad = objects("kind: DirectLoadBalancer\nmetadata: {name: web}\nspec: {listeners: 3}", "shop").unwrap_err();
        assert!(bad.to_string().contains("DirectLoadBalancer web"), "{bad}");
    }

    #[test]
    fn what_is_printed() {
        let shown = Preview {
            class: Some("clb".into()),
            carrier: String::new(),
            problems: vec!["spec: bad".into()],
            steps: vec!["create load balancer".into()],
            holds: vec!["hold x".into()],
        };
        let text = "shop/web (class clb, no load balancer yet)\n  ! spec: bad\n  + create load balancer\n  ~ hold x\n";
        assert_eq!(describe("shop/web", &shown), text);
        let idle = Preview { class: Some("public".into()), carrier: "default".into(), ..Preview::default() };
        assert_eq!(describe("shop/web", &idle), "shop/web (class public, default)\n  nothing to do\n");
    }
}
