//! A service to ask, with nothing behind it but a directory.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use management::config::Config;
use management::{Access, Caller, Manager};
use serde_json::Value;
use tower::ServiceExt as _;

pub(super) struct Rig {
    pub(super) router: Router,
    pub(super) access: Access,
    directory: tempfile::TempDir,
}

/// A reply with its body.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Rig {
    pub(super) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            state_dir: directory.path().join("state"),
            run_dir: directory.path().join("run"),
            log_dir: directory.path().join("log"),
            ..Config::default()
        };
        let manager = Manager::open(config).await.unwrap();
        Self { router: super::super::router(manager), access: Access::Admin, directory }
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Reply {
        self.send_as(request, Caller::new("test", self.access)).await
    }

    pub(super) async fn send_as(&self, mut request: Request<Body>, caller: Caller) -> Reply {
        request.extensions_mut().insert(caller);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        if headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream") {
            // It has no end.
            return Reply { status, headers, text: String::new() };
        }
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Reply { status, headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// `method path`, with a body of `kind` if there is one.
    pub(super) async fn call(&self, line: &str, kind: &str, body: impl Into<Body>) -> Reply {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        self.send(request.body(body.into()).unwrap()).await
    }
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The code of a problem+json, checked to be one.
    pub(super) fn code(&self) -> String {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{}", self.text);
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        let kind = problem["type"].as_str().unwrap();
        kind.strip_prefix("urn:manor:error:").unwrap().to_owned()
    }
}
