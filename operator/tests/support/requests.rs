//! An API server that is a function: what is asked of it is kept, and answered by the test.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{self, SendResponse};

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// `PATCH /api/v1/…?…`
    pub line: String,
    /// `Content-Type`.
    pub content_type: String,
    /// The body; null where there is none.
    pub body: Value,
}

/// An answer: a status code and a body. `None`: none ever comes.
pub type Answer = Option<(u16, Value)>;

/// All that was asked, in order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Asked>>>);

impl Log {
    /// All of it.
    pub fn all(&self) -> Vec<Asked> {
        self.0.lock().unwrap().clone()
    }

    /// The first lines.
    pub fn lines(&self) -> Vec<String> {
        self.all().into_iter().map(|a| a.line).collect()
    }
}

/// A client whose every request `answer` answers.
pub fn client(mut answer: impl FnMut(&Asked) -> Answer + Send + 'static) -> (Client, Log) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let log = Log::default();
    let kept = log.clone();
    tokio::spawn(async move {
        // Kept, because a dropped one is an error at once and not silence.
        let mut unanswered: Vec<SendResponse<Response<Body>>> = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let asked = read(request).await;
            kept.0.lock().unwrap().push(asked.clone());
            match answer(&asked) {
                Some((code, body)) => send.send_response(response(code, &body)),
                None => unanswered.push(send),
            }
        }
    });
    (Client::new(service, super::NAMESPACE), log)
}

async fn read(request: Request<Body>) -> Asked {
    let line = format!("{} {}", request.method(), request.uri());
    let content_type = request.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned());
    let bytes = request.into_body().collect_bytes().await.unwrap();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Asked { line, content_type: content_type.unwrap_or_default(), body }
}

fn response(code: u16, body: &Value) -> Response<Body> {
    let body = Body::from(serde_json::to_vec(body).unwrap());
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}

/// What the API server says where it refuses.
pub fn refusal(code: u16, reason: &str) -> Answer {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": format!("it is {reason}"),
    });
    Some((code, status))
}

/// The object that was sent is the object that is there.
pub fn taken(asked: &Asked) -> Answer {
    let mut object = if asked.body.is_object() { asked.body.clone() } else { json!({}) };
    super::merge(&mut object, &json!({"metadata": {"resourceVersion": "2"}}));
    Some((200, object))
}
