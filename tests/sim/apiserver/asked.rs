//! What a request asks for.

use std::collections::HashMap;

use http::Method;

/// A request, as the server and the log see it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'static str,
    /// The path, without the query.
    pub path: String,
    /// The query, decoded.
    pub query: HashMap<String, String>,
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads it off the request's head.
pub fn asked(request: &http::request::Parts) -> Asked {
    let query: HashMap<String, String> = request
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (decoded(k), decoded(v)))
        .collect();
    let path = request.uri.path().to_owned();
    // A collection's path ends in the plural: the parts after `/api/v1` or `/apis/g/v` are odd in number (the
    // exception, a namespace's own path, is even).
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let rest = parts.len().saturating_sub(if parts.first() == Some(&"api") { 2 } else { 3 });
    let collection = rest % 2 == 1 && (rest == 1 || parts[parts.len() - rest] == "namespaces");
    let watching = query.get("watch").is_some_and(|w| w == "true" || w == "1");
    let verb = match request.method {
        Method::GET if watching => "watch",
        Method::GET if collection => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ => "get",
    };
    Asked { verb, path, query }
}
