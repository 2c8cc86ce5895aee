//! `rocketmq serve-probes`: the kubelet's questions, answered by a process that is there already. A process of its own for each question, as an exec
//! probe starts it, costs the node some 0.07 s of a core every time, and comes late where the node is busy (docs/design/0014-probes.md).

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::probe;
use crate::role::Role;
use crate::settings::Settings;

/// Where the kubelet asks. The operator's `PROBE_PORT` is the same.
pub const PORT: u16 = 10900;
/// Between two lines about a role that stays unready.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Answers `GET /ready` and `GET /live` until the container ends: 200 or 503, with the sentence that `rocketmq probe` prints. `settings` is read for
/// every question, because name servers change while a broker runs.
pub fn serve(role: Role, settings: fn() -> Settings) -> Result<Infallible, io::Error> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let address = settings().own(PORT);
        let listener = TcpListener::bind(&address)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("no probes: can't listen on {address}: {error}")))?;
        let lines = Arc::new(Mutex::new(Lines::default()));
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let lines = Arc::clone(&lines);
            let service = service_fn(move |request| {
                let lines = Arc::clone(&lines);
                async move { Ok::<_, Infallible>(answer(&request, role, settings, &lines).await) }
            });
            // A kubelet that hangs up did not want the answer.
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

async fn answer(
    request: &Request<Incoming>,
    role: Role,
    settings: fn() -> Settings,
    lines: &Mutex<Lines>,
) -> Response<Full<Bytes>> {
    let live = match (request.method(), request.uri().path()) {
        (&Method::GET, "/live") => true,
        (&Method::GET, "/ready") => false,
        _ => return response(StatusCode::NOT_FOUND, "there are /ready and /live"),
    };
    let judged = tokio::task::spawn_blocking(move || probe(role, live, &settings())).await;
    let judged = judged.unwrap_or_else(|error| Err(format!("the question was not put: {error}")));
    if !live && let Some(line) = lines.lock().unwrap_or_else(PoisonError::into_inner).line(&judged, Instant::now()) {
        println!("rocketmq: {line}");
    }
    match judged {
        Ok(sentence) => response(StatusCode::OK, &sentence),
        Err(sentence) => response(StatusCode::SERVICE_UNAVAILABLE, &sentence),
    }
}

fn response(status: StatusCode, sentence: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{sentence}\n"))));
    *response.status_mut() = status;
    response
}

/// What the log says of readiness: the kubelet's Events give the status code alone.
#[derive(Default)]
struct Lines {
    ready: Option<bool>,
    said: Option<Instant>,
}

impl Lines {
    /// The line that is due: at every change, and now and then while the role is not ready.
    fn line(&mut self, judged: &Result<String, String>, now: Instant) -> Option<String> {
        let changed = self.ready != Some(judged.is_ok());
        let due = self.said.is_none_or(|said| now.duration_since(said) >= LINE_EVERY);
        if !changed && (judged.is_ok() || !due) {
            return None;
        }
        (self.ready, self.said) = (Some(judged.is_ok()), Some(now));
        Some(match judged {
            Ok(sentence) => format!("ready: {sentence}"),
            Err(sentence) => format!("not ready: {sentence}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_when_readiness_changes_and_once_a_minute_why_there_is_none() {
        let begin = Instant::now();
        let mut lines = Lines::default();
        let mut line = |seconds, judged: Result<&str, &str>| {
            let judged = judged.map(str::to_owned).map_err(str::to_owned);
            lines.line(&judged, begin + Duration::from_secs(seconds))
        };
        assert_eq!(line(0, Err("it copies")).as_deref(), Some("not ready: it copies"));
        assert_eq!(line(5, Err("it copies")), None);
        assert_eq!(line(60, Err("it still copies")).as_deref(), Some("not ready: it still copies"));
        assert_eq!(line(65, Ok("it is in sync")).as_deref(), Some("ready: it is in sync"));
        assert_eq!(line(500, Ok("it is in sync")), None);
        assert_eq!(line(505, Err("it hangs")).as_deref(), Some("not ready: it hangs"));
    }
}
