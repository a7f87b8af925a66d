//! The dashboard: files that were built by npm (`make dashboard`) and are embedded here.

use axum::{
    Router,
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use rust_embed::RustEmbed;

use super::App;

#[derive(RustEmbed)]
#[folder = "dashboard/dist"]
// Without Node the server is built all the same.
#[allow_missing = true]
struct Files;

/// Nothing is loaded from anywhere else. The pivot's engine is WebAssembly in a worker, and charts set styles on their elements.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Anabranch</title><h1>Anabranch</h1>\
                         <p>This server was built without its dashboard. <code>make dashboard</code> builds it (it needs Node 20 or newer); then build the server again.</p>\
                         <p>The API is here: <a href=\"/v1/meta\">/v1/meta</a>, <a href=\"/v1/status\">/v1/status</a>, <a href=\"/v1/openapi.json\">/v1/openapi.json</a>.</p></html>";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(|| async { file("index.html").unwrap_or_else(|| guarded(Html(NOT_BUILT).into_response())) }))
        .route("/docs", get(|| async { file("docs.html").unwrap_or_else(|| guarded(Html(NOT_BUILT).into_response())) }))
        .route("/icon.svg", get(|| async { file("icon.svg").unwrap_or_else(|| StatusCode::NOT_FOUND.into_response()) }))
        .route(
            "/assets/{name}",
            get(|Path(name): Path<String>| async move { file(&format!("assets/{name}")).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response()) }),
        )
}

fn file(path: &str) -> Option<Response> {
    let file = Files::get(path)?;
    let mut response = guarded(([(header::CONTENT_TYPE, file.metadata.mimetype().to_owned())], file.data).into_response());
    // The names of the assets have a hash of their content; the page itself is always asked for.
    let caching = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    Some(response)
}

fn guarded(mut response: Response) -> Response {
    for (name, value) in [(header::CONTENT_SECURITY_POLICY, POLICY), (header::X_CONTENT_TYPE_OPTIONS, "nosniff"), (header::REFERRER_POLICY, "no-referrer")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
