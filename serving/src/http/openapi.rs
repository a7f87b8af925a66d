//! The API, described for programs: `OpenAPI` 3.1, from the types that are read and written.

use axum::{Json, http::Method};
use serde_json::{Value as Json_, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, Content, HttpMethod, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Paths, RefOr, Required, ResponseBuilder, Schema,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Ref, Type},
    },
};

use super::rejected::{RejectedRecord, RejectedRecords};
use crate::{
    format::Format,
    query::{DateRange, Query, TimeDimension},
    status::{LostStatus, PartitionStatus, RunStatus, SourceStatus, Status, ViewStatus},
};

/// What is answered, and with which methods.
pub(super) const ROUTES: [(&str, &[Method], &str); 12] = [
    ("/v1/load", &[Method::GET, Method::POST], "An answer"),
    ("/v1/subscribe", &[Method::GET, Method::POST], "An answer, for clients that poll"),
    ("/v1/dry-run", &[Method::GET, Method::POST], "What a query means: its normalized form, defaults and resolved times"),
    ("/v1/explain", &[Method::GET, Method::POST], "From which version, parts and live groups an answer would be made; nothing is computed"),
    ("/v1/stream", &[Method::GET], "Server-sent events: the answer, and a new one whenever its rows changed"),
    ("/v1/meta", &[Method::GET, Method::POST], "The views as cubes: members, types, descriptions, segments, how exact each measure is"),
    ("/v1/status", &[Method::GET], "Offsets, lag, epochs, cuts, versions, runs, audits, rejected records"),
    ("/v1/rejected", &[Method::GET], "Records that could not be decoded, with their reason and what they say"),
    ("/v1/openapi.json", &[Method::GET], "This description"),
    ("/metrics", &[Method::GET], "Figures for Prometheus: of the service, and the measures that views declare"),
    ("/healthz", &[Method::GET], "Whether the process lives"),
    ("/readyz", &[Method::GET], "Whether answers can be given, and are fresh"),
];

pub(super) async fn openapi() -> Json<OpenApi> {
    Json(document())
}

pub(super) fn document() -> OpenApi {
    let mut paths = Paths::new();
    for (path, methods, summary) in ROUTES {
        for method in methods {
            let (method, operation) = match *method {
                Method::POST => (HttpMethod::Post, posted(path, summary)),
                _ => (HttpMethod::Get, got(path, summary)),
            };
            let item = PathItem::new(method, operation);
            match paths.paths.get_mut(path) {
                Some(known) => known.merge_operations(item),
                None => drop(paths.paths.insert(path.to_owned(), item)),
            }
        }
    }
    let info = InfoBuilder::new().title("Anabranch").version(env!("CARGO_PKG_VERSION")).description(Some("Exact answers over batch and live data."));
    OpenApiBuilder::new().info(info.build()).paths(paths).components(Some(components())).build()
}

fn components() -> Components {
    let mut components = Components::new();
    let mut add = |name: std::borrow::Cow<'static, str>, schema: RefOr<Schema>| drop(components.schemas.insert(name.into_owned(), schema));
    add(Query::name(), Query::schema());
    add(TimeDimension::name(), TimeDimension::schema());
    add(DateRange::name(), DateRange::schema());
    add(Status::name(), Status::schema());
    add(SourceStatus::name(), SourceStatus::schema());
    add(PartitionStatus::name(), PartitionStatus::schema());
    add(ViewStatus::name(), ViewStatus::schema());
    add(RunStatus::name(), RunStatus::schema());
    add(LostStatus::name(), LostStatus::schema());
    add(RejectedRecords::name(), RejectedRecords::schema());
    add(RejectedRecord::name(), RejectedRecord::schema());
    add("Problem".into(), problem());
    components
}

/// As RFC 9457 has it, and `error` for Cube's clients.
fn problem() -> RefOr<Schema> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    ObjectBuilder::new()
        .property("type", text())
        .property("title", text())
        .property("status", ObjectBuilder::new().schema_type(Type::Integer))
        .property("detail", text())
        .property("error", text())
        .required("type")
        .required("status")
        .required("detail")
        .required("error")
        .into()
}

fn is_query(path: &str) -> bool {
    matches!(path, "/v1/load" | "/v1/subscribe" | "/v1/dry-run" | "/v1/explain" | "/v1/stream")
}

/// One query, or a list of them.
fn queries() -> Schema {
    OneOfBuilder::new().item(Ref::from_schema_name(Query::name())).item(ArrayBuilder::new().items(Ref::from_schema_name(Query::name()))).into()
}

fn offsets() -> Schema {
    let offset = ObjectBuilder::new().schema_type(Type::Integer);
    let partitions = ObjectBuilder::new().additional_properties(Some(Schema::from(offset)));
    ObjectBuilder::new().additional_properties(Some(Schema::from(partitions))).description(Some("By topic, then by partition.")).into()
}

fn integer() -> Schema {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).into()
}

fn parameter(name: &str, schema: Schema, description: &str) -> ParameterBuilder {
    ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query).schema(Some(schema)).description(Some(description))
}

/// JSON in a parameter.
fn json_parameter(name: &str, schema: Schema, description: &str) -> ParameterBuilder {
    let text = ObjectBuilder::new().schema_type(Type::String).content_media_type("application/json".to_owned());
    parameter(name, text.into(), description).example(Some(json!(serde_json::to_string(&schema_example(&schema)).unwrap_or_default())))
}

fn schema_example(schema: &Schema) -> Json_ {
    if matches!(schema, Schema::OneOf(_)) { json!({"measures": ["status_by_city.messages"]}) } else { json!({"server-live-status": {"0": 130}}) }
}

fn got(path: &str, summary: &str) -> Operation {
    let mut operation = OperationBuilder::new().summary(Some(summary)).operation_id(Some(format!("get{}", path.replace(['/', '.', '-'], "_"))));
    if is_query(path) {
        operation = operation.parameter(json_parameter("query", queries(), "The query as JSON.").required(Required::True));
        let of_load: [Parameter; 3] = [
            parameter("run", integer(), "Answer from the version of this run, if it is kept.").build(),
            json_parameter("min_offsets", offsets(), "Answer only from these offsets on: to read one's own writes.").build(),
            parameter("wait_ms", integer(), "How long they may be waited for, at most 20,000; then 503 with what there is.").build(),
        ];
        let text = || ObjectBuilder::new().schema_type(Type::String).into();
        operation = match path {
            "/v1/stream" => operation.parameter(parameter("maxPerSecond", integer(), "Answers a second at most: 1 to 10.")),
            _ => operation.parameters(Some(of_load)).parameter(parameter(
                "queryType",
                text(),
                "multi: the answer as a list of results, as Cube's clients want it.",
            )),
        };
    }
    if path == "/v1/rejected" {
        let text = || ObjectBuilder::new().schema_type(Type::String).into();
        operation = operation
            .parameter(parameter("source", text(), "The source.").required(Required::True).example(Some(json!("server_status"))))
            .parameter(parameter("reason", text(), "Part of the reason."))
            .parameter(parameter("partition", integer(), "Of this partition alone."))
            .parameter(parameter("limit", integer(), "Records at most: 20, up to 100."));
    }
    responses(path, operation).build()
}

fn posted(path: &str, summary: &str) -> Operation {
    let mut operation = OperationBuilder::new().summary(Some(summary)).operation_id(Some(format!("post{}", path.replace(['/', '.', '-'], "_"))));
    if is_query(path) {
        let body = ObjectBuilder::new()
            .property("query", queries())
            .property("queryType", ObjectBuilder::new().schema_type(Type::String))
            .property("run", integer())
            .property("min_offsets", offsets())
            .property("wait_ms", integer())
            .required("query");
        operation = operation.request_body(Some(
            RequestBodyBuilder::new().content("application/json", Content::new(Some(Schema::from(body)))).required(Some(Required::True)).build(),
        ));
    }
    responses(path, operation).build()
}

fn responses(path: &str, operation: OperationBuilder) -> OperationBuilder {
    let object = || RefOr::from(Schema::from(ObjectBuilder::new()));
    let mut good = ResponseBuilder::new().description("As asked");
    good = match path {
        "/v1/stream" => good.content("text/event-stream", Content::new(None::<Schema>)),
        "/metrics" => good.content("text/plain", Content::new(None::<Schema>)),
        "/v1/status" => good.content("application/json", Content::new(Some(Ref::from_schema_name(Status::name())))),
        "/v1/rejected" => good.content("application/json", Content::new(Some(Ref::from_schema_name(RejectedRecords::name())))),
        "/v1/load" | "/v1/subscribe" => {
            let others = Format::ALL.into_iter().filter(|format| *format != Format::Json);
            others.fold(good.content("application/json", Content::new(Some(object()))), |good, format| {
                good.content(format.media_type(), Content::new(None::<Schema>))
            })
        }
        _ => good.content("application/json", Content::new(Some(object()))),
    };
    let mut operation = operation.response("200", good.build());
    let mut bad: Vec<(&str, &str)> = vec![("503", "Not now: not ready, being built, a limit of time or of queries at once")];
    if is_query(path) {
        bad.extend([("400", "The query is wrong"), ("404", "No such version"), ("406", "No such format"), ("413", "The body is too large")]);
        operation = operation.response("304", ResponseBuilder::new().description("The client has this answer").build());
    }
    if path == "/v1/rejected" {
        bad.extend([("400", "A parameter is wrong"), ("404", "No such source")]);
    }
    for (status, description) in bad {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        operation = operation.response(status, ResponseBuilder::new().description(description).content("application/problem+json", content).build());
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_description_is_there() {
        let text = serde_json::to_string(&document()).unwrap();
        let json: Json_ = serde_json::from_str(&text).unwrap();
        assert!(json["openapi"].as_str().unwrap().starts_with("3.1"));
        let references: Vec<&str> = text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(references.len() > 20);
        for name in references {
            assert!(json["components"]["schemas"][name].is_object(), "{name}");
        }
        for (path, methods, _) in ROUTES {
            assert_eq!(json["paths"][path].as_object().unwrap().len(), methods.len(), "{path}");
        }
    }
}
