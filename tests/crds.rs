//! `crds/` and the chart's copy hold what the types say: this test fails when they differ, and writes them anew with
//! `UPDATE_CRDS=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};

/// Helm installs only what lies within the chart, so that has a copy.
const FOLDERS: [&str; 2] = ["crds", "charts/directlb/crds"];

/// Each definition's file, by name.
fn files() -> BTreeMap<String, String> {
    let file = |crd: &_| {
        let json = serde_json::to_value(crd).expect("a definition is JSON");
        let name = format!("{}_{}.yaml", text(&json["spec"]["group"]), text(&json["spec"]["names"]["plural"]));
        // By way of a JSON value, so that the keys are sorted and a diff is small.
        let yaml = serde_saphyr::to_string(&json).expect("JSON is YAML");
        (name, format!("# Generated from src/api: UPDATE_CRDS=1 cargo test --test crds\n{}\n", yaml.trim_end()))
    };
    directlb::api::crds().iter().map(file).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

#[test]
fn the_folders_hold_what_the_types_say() {
    for folder in FOLDERS {
        holds_what_the_types_say(folder);
    }
}

fn holds_what_the_types_say(name: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    let wanted = files();
    let is = || -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().map(|e| e.unwrap());
        let yaml = entries.filter(|e| e.file_name().to_string_lossy().ends_with(".yaml"));
        yaml.map(|e| (e.file_name().to_string_lossy().into(), std::fs::read_to_string(e.path()).unwrap())).collect()
    };
    if std::env::var_os("UPDATE_CRDS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for file in is().keys().filter(|n| !wanted.contains_key(*n)) {
            std::fs::remove_file(folder.join(file)).unwrap();
        }
        for (file, content) in &wanted {
            std::fs::write(folder.join(file), content).unwrap();
        }
    }
    let is = is();
    assert_eq!(is.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "files of {name}/");
    for (file, content) in &wanted {
        assert!(&is[file] == content, "{name}/{file} is out of date: run UPDATE_CRDS=1 cargo test --test crds");
    }
}

#[test]
fn the_files_read_back_as_what_they_were() {
    for crd in directlb::api::crds() {
        let json = serde_json::to_value(&crd).unwrap();
        let yaml = serde_saphyr::to_string(&json).unwrap();
        let back: Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(back, json);
    }
}

#[test]
fn users_are_told_what_each_field_is() {
    for crd in directlb::api::crds() {
        let json = serde_json::to_value(&crd).unwrap();
        for version in json["spec"]["versions"].as_array().unwrap() {
            let schema = &version["schema"]["openAPIV3Schema"];
            let complaints = complaints(schema);
            assert!(complaints.is_empty(), "{}:\n{}", text(&json["metadata"]["name"]), complaints.join("\n"));
        }
    }
}

/// What a schema lacks: descriptions of properties, list types of arrays, messages of rules.
fn complaints(schema: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        check(&format!(".{name}"), property, &mut out);
    }
    out
}

fn check(at: &str, schema: &Value, out: &mut Vec<String>) {
    if schema["description"].as_str().is_none_or(|d| d.trim().is_empty()) {
        out.push(format!("{at} has no description"));
    }
    inner(at, schema, out);
}

fn inner(at: &str, schema: &Value, out: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        if rule["message"].as_str().is_none_or(str::is_empty) && rule["messageExpression"].is_null() {
            out.push(format!("{at}: rule {} has no message", rule["rule"]));
        }
    }
    // Kubernetes' own type; its description and lists are as its authors made them.
    if schema["properties"].get("matchExpressions").is_some() {
        return;
    }
    if schema["type"] == "array" {
        let list = &schema["x-kubernetes-list-type"];
        if !["atomic", "set", "map"].map(|t| json!(t)).contains(list) {
            out.push(format!("{at}: a list of no x-kubernetes-list-type"));
        }
        inner(&format!("{at}[]"), &schema["items"], out);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        check(&format!("{at}.{name}"), property, out);
    }
}

#[test]
fn the_check_of_schemas_finds_what_is_missing() {
    let bad = json!({"properties": {
        "spec": {"description": "The spec.", "x-kubernetes-validations": [{"rule": "true"}], "properties": {
            "list": {"description": "A list.", "type": "array", "items": {"properties": {"deep": {"type": "string"}}}},
            "blank": {"description": " "},
        }},
    }});
    let expected = [
        ".spec: rule \"true\" has no message",
        ".spec.blank has no description",
        ".spec.list: a list of no x-kubernetes-list-type",
        ".spec.list[].deep has no description",
    ];
    assert_eq!(complaints(&bad), expected);
}
