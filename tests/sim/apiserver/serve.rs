//! The HTTP side: a request in, an answer, a stream or a failed connection out.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body as AnswerBody;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::BoxError;

use super::{
    ApiServer, apply,
    asked::{Asked, asked},
    error::ApiError,
    faults::{Fault, Luck},
    patch, resource,
    resource::{ResourceType, Route, Target},
    select::Selector,
    store::{Key, Object, Store},
    watch::{WatchRequest, metadata_of, rendered, stream},
    write::Write,
};

struct Input {
    asked: Asked,
    content_type: String,
    meta_only: bool,
    body: Vec<u8>,
}

enum Answer {
    Object(Arc<Object>, u16),
    Document(Value, u16),
    Text(String),
    Watch(Box<WatchRequest>),
}

impl tower::Service<Request<Body>> for ApiServer {
    type Response = Response<AnswerBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { server.serve(request).await })
    }
}

fn reset() -> BoxError {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer").into()
}

async fn wait(time: Duration) {
    // Even a sleep of zero takes a turn of the timer.
    if !time.is_zero() {
        sleep(time).await;
    }
}

impl ApiServer {
    async fn serve(self, request: Request<Body>) -> Result<Response<AnswerBody>, BoxError> {
        let (parts, body) = request.into_parts();
        let header = |name| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let input = Input {
            asked: asked(&parts),
            content_type: header(http::header::CONTENT_TYPE),
            meta_only: header(http::header::ACCEPT).contains("as=PartialObjectMetadata"),
            body: body.collect().await?.to_bytes().to_vec(),
        };
        let (entry, luck) = self.begin(&input.asked, &input.body);
        let Some(mut luck) = luck else { return Err(reset()) };
        wait(luck.latency).await;
        let fault = luck.fault.take();
        let mut changed = false;
        let answer = match &fault {
            Some(Fault::Disconnect | Fault::Hang { executed: false, .. }) => Err(None),
            Some(Fault::Refuse(error)) => Err(Some((**error).clone())),
            other => {
                if let Some(Fault::Delay(time)) = other {
                    wait(*time).await;
                }
                let before = self.with_store(|s| s.rv);
                let answer = self.answer(input, &luck).map_err(Some);
                changed = self.with_store(|s| s.rv) != before;
                answer
            }
        };
        let code = match &answer {
            Ok(Answer::Object(_, code) | Answer::Document(_, code)) => *code,
            Ok(_) => 200,
            Err(error) => error.as_ref().map_or(0, |e| e.code),
        };
        self.finish(entry, code, changed);
        wait(luck.return_latency).await;
        if let Some(Fault::Hang { wait: time, .. }) = fault {
            wait(time).await;
        }
        if matches!(fault, Some(Fault::Disconnect | Fault::LoseReply | Fault::Hang { .. })) || self.is_down() {
            return Err(reset());
        }
        let (code, body, retry_after) = match answer {
            Ok(Answer::Object(object, code)) => (code, AnswerBody::from(object.json().clone()), None),
            Ok(Answer::Document(value, code)) => (code, AnswerBody::from(value.to_string()), None),
            Ok(Answer::Text(text)) => (200, AnswerBody::from(text), None),
            Ok(Answer::Watch(request)) => (200, AnswerBody::from_stream(stream(self.clone(), *request)), None),
            Err(Some(error)) => (error.code, AnswerBody::from(error.status().to_string()), error.retry_after),
            Err(None) => return Err(reset()),
        };
        let mut response = Response::builder().status(code).header(http::header::CONTENT_TYPE, "application/json");
        if let Some(after) = retry_after {
            response = response.header(http::header::RETRY_AFTER, after.as_secs());
        }
        Ok(response.body(body)?)
    }

    fn answer(&self, mut input: Input, luck: &Luck) -> Result<Answer, ApiError> {
        let route = match self.with_store(|s| resource::route(&s.types, &input.asked.path))? {
            Target::Document(document) => return Ok(Answer::Document(document, 200)),
            Target::Resource(route) => route,
        };
        if input.asked.verb == "create" && route.name.is_none() {
            let mut object: Value = parse(&input.body)?;
            // Mutators may read the store, so they run before it is locked.
            self.mutate(&route, &mut object)?;
            input.body = object.to_string().into_bytes();
        }
        let now = self.now();
        let meta_only = input.meta_only;
        let answer = self.with_store_mut(|store| dispatch(store, &route, &input, luck, now))?;
        Ok(match answer {
            Answer::Object(object, code) if meta_only => Answer::Document(metadata_of(&object), code),
            other => other,
        })
    }
}

fn parse(body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|e| ApiError::bad_request(format!("error decoding: {e}")))
}

fn dispatch(
    store: &mut Store,
    route: &Route,
    input: &Input,
    luck: &Luck,
    now: jiff::Timestamp,
) -> Result<Answer, ApiError> {
    let (ty, query) = (&route.ty, &input.asked.query);
    let get = |key: &str| query.get(key).map(String::as_str).filter(|v| !v.is_empty());
    let selector = || Selector::parse(ty, route.namespace.as_deref(), get("labelSelector"), get("fieldSelector"));
    let dry_run = get("dryRun") == Some("All");
    let Some(name) = &route.name else {
        return match input.asked.verb {
            "list" => list(store, ty, input, &selector()?, luck).map(Answer::Text),
            "watch" => Ok(Answer::Watch(Box::new(watch(ty, selector()?, query, input.meta_only, luck)))),
            "create" => {
                let object = parse(&input.body)?;
                store
                    .create(ty, route.namespace.as_deref(), object, apply::Owners::new(), now, dry_run)
                    .map(|o| Answer::Object(o, 201))
            }
            "deletecollection" => {
                let (selector, options) = (selector()?, parse(&input.body)?);
                let found = store.table(ty).objects.iter().filter(|(_, o)| selector.matches(o));
                let keys: Vec<Key> = found.map(|(k, _)| k.clone()).collect();
                for key in keys {
                    // One that goes with another just deleted is no error.
                    let _ = store.delete(ty, &key, &options, now);
                }
                Ok(Answer::Document(
                    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
                    200,
                ))
            }
            _ => Err(ApiError::new(405, "MethodNotAllowed", "the server does not allow this method")),
        };
    };
    let key: Key = (route.namespace.clone().unwrap_or_default(), name.clone());
    let write = Write { sub: route.sub.as_deref(), dry_run, whole: input.asked.verb == "update" };
    match (input.asked.verb, route.sub.as_deref()) {
        ("get", Some("scale")) if resource::is_scalable(ty) => {
            Ok(Answer::Document(resource::scale_of(&**store.get(ty, &key)?), 200))
        }
        ("get", None | Some("status")) => store.get(ty, &key).map(|o| Answer::Object(o, 200)),
        ("update", None | Some("status")) => {
            store.replace(ty, &key, parse(&input.body)?, None, write, now).map(|o| Answer::Object(o, 200))
        }
        ("patch", None | Some("status")) if input.content_type.starts_with("application/apply-patch") => {
            let manager = get("fieldManager").ok_or_else(|| ApiError::bad_request("fieldManager is required"))?;
            let config = parse(&input.body)?;
            server_side_apply(store, ty, &key, &config, manager, get("force") == Some("true"), write, now)
        }
        ("patch", None | Some("status")) => {
            let old = store.get(ty, &key)?;
            let new = patch::patched(ty, &old, &input.content_type, &input.body)?;
            store.replace(ty, &key, new, None, write, now).map(|o| Answer::Object(o, 200))
        }
        ("delete", None) => {
            let mut options = parse(&input.body)?;
            if let Some(grace) = get("gracePeriodSeconds").and_then(|g| g.parse::<i64>().ok()) {
                options = if options.is_object() { options } else { json!({}) };
                options["gracePeriodSeconds"] = grace.into();
            }
            let (object, gone) = store.delete(ty, &key, &options, now)?;
            if !gone || ty.kind == "Pod" {
                return Ok(Answer::Object(object, 200));
            }
            let details = json!({"name": name, "group": ty.group, "kind": ty.plural, "uid": object["metadata"]["uid"]});
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
            Ok(Answer::Document(status, 200))
        }
        ("create", Some("eviction")) if ty.kind == "Pod" => {
            store.delete(ty, &key, &parse(&input.body)?["deleteOptions"], now)?;
            Ok(Answer::Document(
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
                201,
            ))
        }
        _ => Err(ApiError::no_such_path()),
    }
}

#[allow(clippy::too_many_arguments)]
fn server_side_apply(
    store: &mut Store,
    ty: &ResourceType,
    key: &Key,
    config: &Value,
    manager: &str,
    force: bool,
    write: Write<'_>,
    now: jiff::Timestamp,
) -> Result<Answer, ApiError> {
    for field in ["apiVersion", "kind"] {
        if config[field].as_str().unwrap_or_default().is_empty() {
            return Err(ApiError::bad_request(format!("{field} must be set in an apply")));
        }
    }
    if config["metadata"].get("managedFields").is_some_and(|m| !m.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let Ok(old) = store.get(ty, key) else {
        if write.sub.is_some() {
            return Err(ApiError::not_found(ty, &key.1));
        }
        if let Some(uid) = config["metadata"]["uid"].as_str() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(ApiError::conflict(ty, &key.1, &why));
        }
        let empty = json!({});
        let (_, owners) = apply::applied(&empty, &apply::Owners::new(), config, manager, None, ty.status, force)?;
        let mut object = config.clone();
        object["metadata"]["name"] = key.1.clone().into();
        let namespace = Some(key.0.as_str()).filter(|n| !n.is_empty());
        return store.create(ty, namespace, object, owners, now, write.dry_run).map(|o| Answer::Object(o, 201));
    };
    let (mut next, owners) = apply::applied(&old, &old.owners, config, manager, write.sub, ty.status, force)?;
    // What the config says of identity and version are preconditions.
    for field in ["uid", "resourceVersion", "name", "namespace"] {
        if let Some(value) = config["metadata"].get(field).filter(|v| !v.is_null()) {
            next["metadata"][field] = value.clone();
        }
    }
    store.replace(ty, key, next, Some(owners), write, now).map(|o| Answer::Object(o, 200))
}

fn watch(
    ty: &Arc<ResourceType>,
    selector: Selector,
    query: &HashMap<String, String>,
    meta_only: bool,
    luck: &Luck,
) -> WatchRequest {
    let flag = |key: &str| query.get(key).is_some_and(|v| v == "true");
    let initial_events = flag("sendInitialEvents");
    let from = query.get("resourceVersion").and_then(|v| v.parse().ok()).filter(|rv| *rv != 0 && !initial_events);
    let timeout = query.get("timeoutSeconds").and_then(|t| t.parse().ok()).unwrap_or(1800);
    WatchRequest {
        ty: Arc::clone(ty),
        selector,
        from,
        bookmarks: flag("allowWatchBookmarks"),
        initial_events: initial_events && flag("allowWatchBookmarks"),
        timeout: Duration::from_secs(timeout),
        meta_only,
        fate: luck.fate,
        rng: luck.rng.clone(),
    }
}

fn list(store: &Store, ty: &ResourceType, input: &Input, selector: &Selector, luck: &Luck) -> Result<String, ApiError> {
    let query = &input.asked.query;
    let table = store.table(ty);
    let token = query.get("continue").filter(|c| !c.is_empty()).and_then(|c| {
        let (rv, key) = c.split_once(':')?;
        let (namespace, name) = key.split_once('/')?;
        Some((rv.parse::<u64>().ok()?, (namespace.to_owned(), name.to_owned())))
    });
    let any_version = query.get("resourceVersion").is_some_and(|rv| rv == "0");
    let oldest = table.log.iter().rev().nth(luck.stale as usize).map_or(table.compacted, |c| c.rv);
    let rv = match &token {
        Some((rv, _)) => *rv,
        None if any_version && luck.stale > 0 => oldest.max(1),
        None => store.rv,
    };
    let past = if rv == store.rv { None } else { Some(table.at(rv)?) };
    let none = Default::default();
    let objects = if luck.empty { &none } else { past.as_ref().unwrap_or(&table.objects) };
    let limit = query.get("limit").and_then(|l| l.parse::<usize>().ok()).filter(|l| *l > 0).unwrap_or(usize::MAX);

    let (kind, version) = if input.meta_only {
        ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned())
    } else {
        (ty.kind.clone(), ty.api_version())
    };
    let after = token.map(|(_, key)| key);
    let start = after.as_ref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
    let mut found =
        objects.range((start, std::ops::Bound::Unbounded)).filter(|(_, object)| selector.matches(object)).peekable();
    let (mut items, mut count, mut next) = (Vec::new(), 0, None);
    while count < limit
        && let Some((key, object)) = found.next()
    {
        if count > 0 {
            items.push(b',');
        }
        items.extend_from_slice(&rendered(object, input.meta_only));
        count += 1;
        next = Some(key);
    }
    let mut meta = json!({"resourceVersion": rv.to_string()});
    if let (Some((namespace, name)), Some(_)) = (next, found.peek()) {
        meta["continue"] = format!("{rv}:{namespace}/{name}").into();
    }
    let items = String::from_utf8_lossy(&items);
    Ok(format!(r#"{{"kind":"{kind}List","apiVersion":"{version}","metadata":{meta},"items":[{items}]}}"#))
}
