//! Errors as clients see them: RFC 9457, and for Cube's clients a string `error`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value as Json_, json};

use crate::answerable::Unreadable;

/// What went wrong, for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// A stable name of the kind.
    pub code: &'static str,
    /// Which member, operator or value, and what would be right.
    pub detail: String,
    /// What there is besides, for programs.
    pub more: Map<String, Json_>,
}

impl Problem {
    /// The query is wrong.
    #[must_use]
    pub fn bad_query(code: &'static str, detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, detail: detail.into(), more: Map::new() }
    }

    /// It cannot be answered now.
    #[must_use]
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code, detail: detail.into(), more: Map::new() }
    }
}

impl Problem {
    /// The same, with something that programs read.
    #[must_use]
    pub fn with(mut self, name: &str, value: Json_) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }
}

impl From<Unreadable> for Problem {
    fn from(error: Unreadable) -> Self {
        Self::unavailable("unreadable", error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:anabranch:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "error": self.detail,
        });
        if let Some(members) = body.as_object_mut() {
            members.extend(self.more);
        }
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
