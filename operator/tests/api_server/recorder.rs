//! What an operator asks of the API server, as rights: group, resource, verb.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::Body;
use tower::layer::{LayerFn, layer_fn};
use tower::{BoxError, Service};

/// Group, resource, verb.
pub type Right = (String, String, String);

/// What was used and what was refused.
#[derive(Clone, Default)]
pub struct Requests(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    rights: BTreeSet<Right>,
    forbidden: BTreeSet<Right>,
    writes: Vec<String>,
}

impl Requests {
    /// Rights that were used.
    pub fn rights(&self) -> BTreeSet<Right> {
        self.0.lock().unwrap().rights.clone()
    }

    /// Rights that were missing.
    pub fn forbidden(&self) -> BTreeSet<Right> {
        self.0.lock().unwrap().forbidden.clone()
    }

    /// Everything but reads, without the leader Lease.
    pub fn writes(&self) -> Vec<String> {
        self.0.lock().unwrap().writes.clone()
    }

    fn keep(&self, method: &Method, uri: &str, code: u16) {
        let Some((group, resource, verb)) = right(method, uri) else { return };
        let kept = &mut *self.0.lock().unwrap();
        if !matches!(&*verb, "get" | "list" | "watch") && resource != "leases" {
            kept.writes.push(format!("{method} {uri}"));
        }
        // A server-side apply of what is not there yet.
        if verb == "patch" && code == 201 {
            kept.rights.insert((group.clone(), resource.clone(), "create".into()));
        }
        if code == 403 {
            kept.forbidden.insert((group.clone(), resource.clone(), verb.clone()));
        }
        kept.rights.insert((group, resource, verb));
    }
}

/// The right that a request needs; `None`: it is not about objects.
fn right(method: &Method, uri: &str) -> Option<Right> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let mut parts = path.trim_start_matches('/').split('/').collect::<Vec<_>>().into_iter();
    let group = match parts.next()? {
        "api" => "",
        "apis" => parts.next()?,
        _ => return None,
    };
    parts.next()?;
    let mut rest: Vec<&str> = parts.collect();
    if rest.first() == Some(&"namespaces") && rest.len() > 2 {
        rest.drain(..2);
    }
    let (resource, named) = (rest.first()?, rest.len() > 1);
    let resource = rest.get(2).map_or_else(|| (*resource).to_owned(), |sub| format!("{resource}/{sub}"));
    let verb = match *method {
        Method::GET if query.contains("watch=true") => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        _ => "deletecollection",
    };
    Some((group.to_owned(), resource, verb.to_owned()))
}

/// Passes requests on, and keeps what they needed.
#[derive(Clone)]
pub struct Recorder<S> {
    inner: S,
    requests: Requests,
}

impl<S> Recorder<S> {
    /// To be put into a client.
    pub fn layer() -> (LayerFn<impl Fn(S) -> Self + Clone>, Requests) {
        let requests = Requests::default();
        let kept = requests.clone();
        (layer_fn(move |inner| Self { inner, requests: kept.clone() }), requests)
    }
}

impl<S, B> Service<Request<Body>> for Recorder<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (method, uri, requests) = (request.method().clone(), request.uri().to_string(), self.requests.clone());
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await?;
            let path = uri.find("/api").map_or("", |at| &uri[at..]);
            requests.keep(&method, path, answer.status().as_u16());
            Ok(answer)
        }
        .boxed()
    }
}
