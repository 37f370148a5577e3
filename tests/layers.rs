//! The pure modules stay pure: they name no client, no runtime, no clock, no file and no socket. What needs one of these
//! belongs on the other side of the boundary, and hands its findings in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

/// Files and folders below `src/`; a name without extension stands for `name.rs`, `name_*.rs` and the folder `name/`.
const PURE: &[&str] = &[
    "model",
    "prerequisites",
    "resolve",
    "plan",
    "status",
    "provider/envoy/snapshot",
    "provider/tencent/decode",
    "provider/tencent/diff",
    "provider/tencent/error",
    "provider/tencent/limits",
    "provider/tencent/names",
    "provider/tencent/ops",
    "provider/tencent/quota",
    "provider/tencent/replies",
    "provider/tencent/shape",
    "provider/tencent/sign",
    "provider/tencent/state",
    "gate/inject",
    "sync/batch",
    "sync/bucket",
    "sync/error",
    "sync/estimate",
    "sync/limits",
    "sync/quarantine",
    "sync/random",
];

/// Those of [`PURE`] that must be there: a renamed folder must not go unchecked.
const NEEDED: &[&str] = &["model", "resolve"];

/// Paths of crates and modules. `kube::` paths also count when written as `kube::{.., name, ..}`.
const FORBIDDEN: &[&str] = &[
    "kube::Client",
    "kube::Api",
    "kube::Config",
    "kube::api::Api",
    "kube::client",
    "kube::config",
    "kube::runtime",
    "tokio",
    "futures",
    "tonic",
    "axum",
    "tower",
    "hyper",
    "reqwest",
    "rand",
    "tracing",
    "Instant",
    "SystemTime",
    "::now(",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "async fn",
    "async move",
];

#[test]
fn pure_modules_name_nothing_impure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for needed in NEEDED {
        assert!(!sources(&src, needed).is_empty(), "src/{needed} is gone: correct the list in this test");
    }
    let mut wrong = Vec::new();
    for file in PURE.iter().flat_map(|m| sources(&src, m)) {
        let shown = file.strip_prefix(&src).unwrap().display().to_string();
        for (line, what) in violations(&std::fs::read_to_string(&file).unwrap()) {
            wrong.push(format!("src/{shown}:{line} uses {what}"));
        }
    }
    assert!(wrong.is_empty(), "pure modules must not:\n{}", wrong.join("\n"));
}

/// The source files of a module, without those that are only compiled for tests.
fn sources(src: &Path, module: &str) -> Vec<PathBuf> {
    let whole = src.join(module);
    let (folder, name) = (whole.parent().unwrap(), whole.file_name().unwrap().to_str().unwrap());
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()) {
        let stem = entry.file_stem().unwrap().to_str().unwrap();
        if entry.is_dir() && stem == name {
            walk(&entry, &mut out);
        } else if is_rust(&entry) && (stem == name || stem.starts_with(&format!("{name}_"))) {
            out.push(entry);
        }
    }
    out.sort();
    out
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "rs")
}

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        let stem = entry.file_stem().unwrap().to_str().unwrap();
        if stem == "tests" || stem.ends_with("_tests") {
            continue;
        }
        if entry.is_dir() {
            walk(&entry, out);
        } else if is_rust(&entry) {
            out.push(entry);
        }
    }
}

/// Line and name of everything forbidden in a source text.
fn violations(source: &str) -> Vec<(usize, String)> {
    let code = without_tests(&without_comments_and_texts(source));
    let mut out = Vec::new();
    for (i, line) in code.lines().enumerate() {
        for name in FORBIDDEN {
            if names(line, name) {
                out.push((i + 1, (*name).to_string()));
            }
        }
    }
    out.extend(grouped_imports(&code));
    out.sort();
    out.dedup();
    out
}

/// Whether the line holds the name as whole words.
fn names(line: &str, name: &str) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + name.len()..].chars().next());
        let begins = !name.starts_with(|c: char| c.is_alphanumeric()) || !word(before);
        begins && (!name.ends_with(|c: char| c.is_alphanumeric()) || !word(after))
    })
}

/// `use kube::{Api, core::Selector}` and `use std::{fs, ..}`: the same names, in groups.
fn grouped_imports(code: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let Some(end) = code[at..].find(';') else { continue };
        let line = code[..at].matches('\n').count() + 1;
        for path in expand("", &code[at + 4..at + end]) {
            for name in FORBIDDEN {
                if path == *name || path.starts_with(&format!("{name}::")) {
                    out.push((line, (*name).to_string()));
                }
            }
        }
    }
    out
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(prefix: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return if path.is_empty() { Vec::new() } else { vec![format!("{prefix}{path}")] };
    };
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let inside = tree[open + 1..].trim_end().strip_suffix('}').unwrap_or(&tree[open + 1..]);
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (i, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[from..i]);
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[from..]);
    parts.into_iter().flat_map(|p| expand(&prefix, p)).collect()
}

/// The same text with comments and the insides of string literals blanked out; lines keep their numbers.
fn without_comments_and_texts(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut i = 0;
    let blank = |out: &mut String, c: char| out.push(if c == '\n' { '\n' } else { ' ' });
    while let Some(&c) = chars.get(i) {
        let next = chars.get(i + 1);
        if c == '/' && next == Some(&'/') {
            while chars.get(i).is_some_and(|c| *c != '\n') {
                blank(&mut out, ' ');
                i += 1;
            }
        } else if c == '/' && next == Some(&'*') {
            while i < chars.len() && !(chars[i] == '*' && chars.get(i + 1) == Some(&'/')) {
                blank(&mut out, chars[i]);
                i += 1;
            }
            i = (i + 2).min(chars.len());
        } else if c == 'r' && matches!(next, Some('"' | '#')) && !chars[..i].last().is_some_and(|c| c.is_alphanumeric())
        {
            let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
            let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let rest: String = chars[i + 2 + hashes..].iter().collect();
            let length = rest.find(&end).map_or(rest.len(), |at| at + end.len());
            let count = 2 + hashes + rest[..length].chars().count();
            chars[i..(i + count).min(chars.len())].iter().for_each(|c| blank(&mut out, *c));
            i += count;
        } else if c == '"' {
            blank(&mut out, c);
            i += 1;
            while chars.get(i).is_some_and(|c| *c != '"') {
                if chars[i] == '\\' {
                    blank(&mut out, ' ');
                    i += 1;
                }
                chars.get(i).into_iter().for_each(|c| blank(&mut out, *c));
                i += 1;
            }
            blank(&mut out, ' ');
            i += 1;
        } else if c == '\'' && next == Some(&'\\') {
            let length = chars[i + 3..].iter().position(|c| *c == '\'').map_or(3, |n| n + 4);
            (0..length).for_each(|_| out.push(' '));
            i += length;
        } else if c == '\'' && chars.get(i + 2) == Some(&'\'') {
            out.push_str("   ");
            i += 3;
        } else {
            out.push(c);
            i += 1;
        }
    }
    out
}

/// The same text without what follows `#[cfg(test)]`: one module or item.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let mut depth = 0;
        let mut end = item.len();
        for (i, c) in item.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => {
                    end = i + 1;
                    break;
                }
                '}' => depth -= 1,
                ';' if depth == 0 => {
                    end = i + 1;
                    break;
                }
                _ => {}
            }
        }
        out.extend(item[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &item[end..];
    }
    out.push_str(rest);
    out
}

#[test]
fn the_scan_finds_what_it_is_for() {
    let found =
        |source: &str| violations(source).into_iter().map(|(line, what)| format!("{line} {what}")).collect::<Vec<_>>();
    for (source, expected) in [
        ("use kube::Client;", "1 kube::Client"),
        ("use kube::{\n    ResourceExt as _,\n    runtime::{watcher, Controller},\n};", "1 kube::runtime"),
        ("use kube::{api::{Api, Patch}};", "1 kube::api::Api"),
        ("use kube::{Api as A};", "1 kube::Api"),
        ("fn f() {}\nasync fn g() { tokio::time::sleep(d).await }", "2 async fn"),
        ("let t = std::time::Instant::now();", "1 ::now("),
        ("let t = Timestamp::now();", "1 ::now("),
        ("use std::{\n    fs,\n    net::{IpAddr, TcpStream},\n};", "1 std::fs"),
        ("use std::net::{IpAddr, TcpStream};", "1 std::net::TcpStream"),
        ("use std::time::{Duration, SystemTime};", "1 SystemTime"),
        ("#[cfg(test)]\nmod tests { use tokio::x; }\nfn f() { rand::random() }", "3 rand"),
        ("const S: &str = \"\\\"\"; use reqwest::X;", "1 reqwest"),
        ("let q = '\"'; let r = hyper::Y;", "1 hyper"),
        ("let q = '\\''; let r = hyper::Y;", "1 hyper"),
        ("let a = r#\"x\"#; let r = hyper::Y;", "1 hyper"),
    ] {
        assert!(found(source).iter().any(|f| f == expected), "{source}: {:?}", found(source));
    }
}

#[test]
fn the_scan_lets_the_rest_be() {
    for source in [
        "use kube::{ResourceExt as _, core::{Selector, SelectorExt as _}};",
        "// tokio::spawn is not for here\nfn f() {}",
        "/* kube::Client */ fn f() {}",
        "/// [`kube::Client`]\nfn f() {}",
        "let s = \"tokio::spawn\"; let r = r#\"std::fs \"x\" \"#;",
        "#[cfg(test)]\nmod tests { use std::{fs, time::Instant}; fn f() { if true { tokio::x() } } }",
        "#[cfg(test)]\nmod tests;",
        "fn operand(instants: u8) -> u8 { brand(instants) }",
        "use std::{net::IpAddr, time::Duration};",
        "fn f<'a>(x: &'a str) -> char { 'x' }",
    ] {
        assert_eq!(violations(source), [], "{source}");
    }
}
