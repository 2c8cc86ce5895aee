//! An API server in memory, as far as a pass over topics and groups uses it: statuses by server-side apply, merge patches, Events.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::fuse::Fuse;

/// Plural, namespace, name.
pub type Key = (String, String, String);

#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<Key, Value>,
    /// `PATCH topics/orders/status` and the like, Events left out.
    pub writes: Vec<String>,
    /// Reason, object, note.
    pub events: Vec<(String, String, String)>,
    /// Plural, name, and whether it is about the status: such writes are refused, as an admission policy does.
    pub refused: BTreeSet<(String, String, bool)>,
    /// Plural and namespace whose lists are not answered.
    pub unlisted: BTreeSet<(String, String)>,
    /// Namespaces that are going away.
    pub terminating: BTreeSet<String>,
    /// Top-level fields of a status by object and manager.
    owned: BTreeMap<(Key, String), BTreeSet<String>>,
    version: u64,
}

#[derive(Clone, Default)]
pub struct Api {
    state: Arc<Mutex<State>>,
    /// When the operator that writes is killed.
    pub fuse: Fuse,
}

impl Api {
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (code, answer) = match parts.method {
                    Method::GET => api.read(&parts).await,
                    _ => api.fuse.burn(async { api.answer(&parts, &body) }).await,
                };
                let response = Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer).unwrap()));
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        Client::new(service, "ns")
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap())
    }

    /// Lists come when they may, watches show nothing more.
    async fn read(&self, parts: &http::request::Parts) -> (u16, Value) {
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let ["apis", _, _, "namespaces", namespace, plural] = path.as_slice() else { return self.answer(parts, &[]) };
        if parts.uri.query().is_some_and(|q| q.contains("watch=true")) {
            return std::future::pending().await;
        }
        let (namespace, plural) = ((*namespace).to_owned(), (*plural).to_owned());
        while self.with(|s| s.unlisted.contains(&(plural.clone(), namespace.clone()))) {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        let items = |s: &mut State| -> Vec<Value> {
            s.objects.iter().filter(|(k, _)| (&k.0, &k.1) == (&plural, &namespace)).map(|(_, o)| o.clone()).collect()
        };
        let items = self.with(items);
        (
            200,
            json!({"apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}),
        )
    }

    fn answer(&self, parts: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let manager = parts.uri.query().and_then(|q| q.split('&').find_map(|p| p.strip_prefix("fieldManager=")));
        self.with(|state| match (parts.method.clone(), path.as_slice()) {
            (Method::GET, ["api", "v1", "namespaces", name]) => {
                let phase = if state.terminating.contains(*name) { "Terminating" } else { "Active" };
                (200, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "status": {"phase": phase}}))
            }
            (_, ["apis", "events.k8s.io", ..]) => state.event(body),
            (Method::PATCH, ["apis", _, _, "namespaces", namespace, plural, name, rest @ ..]) => {
                let key = ((*plural).to_owned(), (*namespace).to_owned(), (*name).to_owned());
                let merge = parts.headers["content-type"] == "application/merge-patch+json";
                state.patch(&key, rest == ["status"], manager.unwrap_or_default(), merge, &body)
            }
            (method, path) => panic!("nobody should ask {method} {path:?}"),
        })
    }
}

impl State {
    fn event(&mut self, body: Value) -> (u16, Value) {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        self.events.push((text(&body["reason"]), text(&body["regarding"]["name"]), text(&body["note"])));
        (201, body)
    }

    fn patch(&mut self, key: &Key, status: bool, manager: &str, merge: bool, body: &Value) -> (u16, Value) {
        self.writes.push(format!("{}/{}{}", key.0, key.2, if status { "/status" } else { "" }));
        self.version += 1;
        let version = self.version;
        if self.refused.contains(&(key.0.clone(), key.2.clone(), status)) {
            return failure(403, "Forbidden", "a policy of ours says no");
        }
        let Some(object) = self.objects.get_mut(key) else { return failure(404, "NotFound", "") };
        if status && merge {
            let fields = body["status"].as_object().unwrap().clone();
            if object["status"].is_null() {
                object["status"] = json!({});
            }
            object["status"].as_object_mut().unwrap().extend(fields);
        } else if status {
            let new: BTreeSet<String> = body["status"].as_object().unwrap().keys().cloned().collect();
            let owned = self.owned.entry((key.clone(), manager.to_owned())).or_default();
            let fields = object["status"].as_object().cloned().unwrap_or_default();
            let mut fields: serde_json::Map<String, Value> =
                fields.into_iter().filter(|(k, _)| !owned.contains(k)).collect();
            fields.extend(body["status"].as_object().unwrap().clone());
            object["status"] = Value::Object(fields);
            *owned = new;
        } else {
            object["metadata"]["finalizers"] = body["metadata"]["finalizers"].clone();
        }
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let answer = object.clone();
        let gone = object["metadata"]["deletionTimestamp"].is_string()
            && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if gone {
            self.objects.remove(key);
        }
        (200, answer)
    }
}

fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = "Failure";
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": status, "reason": reason, "message": message, "code": code}),
    )
}
