//! What the HTTP ports serve, as an OpenAPI 3.1 document.
//!
//! The shapes of answers come from the types that are serialized, with their docs as descriptions, so that the page cannot say
//! other than the program. Routes are described where they are served.

use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// A document under construction.
#[derive(Debug)]
pub struct Document {
    title: &'static str,
    description: String,
    generator: SchemaGenerator,
    paths: Map<String, Value>,
}

/// An answer of a route.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    description: &'static str,
    content: Option<(&'static str, Value, Option<Value>)>,
}

impl Answer {
    /// An answer without a body.
    pub fn empty(status: u16, description: &'static str) -> Self {
        Self { status, description, content: None }
    }

    /// An answer of this media type and schema.
    pub fn with(status: u16, description: &'static str, media: &'static str, schema: Value) -> Self {
        Self { status, description, content: Some((media, schema, None)) }
    }

    /// The same with an example.
    pub fn such_as(mut self, example: Value) -> Self {
        if let Some((_, _, slot)) = &mut self.content {
            *slot = Some(example);
        }
        self
    }
}

impl Document {
    /// Nothing described yet.
    pub fn new(title: &'static str, description: impl Into<String>) -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.contract = Contract::Serialize;
        let generator = SchemaGenerator::new(settings);
        Self { title, description: description.into(), generator, paths: Map::new() }
    }

    /// The schema of a type, which is described once for all routes.
    pub fn schema<T: JsonSchema>(&mut self) -> Value {
        self.generator.subschema_for::<T>().to_value()
    }

    /// `GET path`. Parameters in the path are those in braces, each a text.
    pub fn get(&mut self, path: &str, summary: &str, parameters: &[(&str, &str)], answers: Vec<Answer>) {
        let parameter = |(name, description): &(&str, &str)| {
            json!({ "name": name, "in": if path.contains(&format!("{{{name}}}")) { "path" } else { "query" },
                "required": path.contains(&format!("{{{name}}}")), "description": description, "schema": { "type": "string" } })
        };
        let mut responses = Map::new();
        for Answer { status, description, content } in answers {
            let mut response = json!({ "description": description });
            if let Some((media, schema, example)) = content {
                let mut content = json!({ "schema": schema });
                if let Some(example) = example {
                    content["example"] = example;
                }
                response["content"] = json!({ media: content });
            }
            responses.insert(status.to_string(), response);
        }
        let mut operation = json!({ "summary": summary, "responses": responses });
        if !parameters.is_empty() {
            operation["parameters"] = parameters.iter().map(parameter).collect();
        }
        self.paths.insert(path.to_owned(), json!({ "get": operation }));
    }

    /// The finished document.
    pub fn finish(mut self) -> Value {
        let schemas = self.generator.take_definitions(true);
        json!({
            "openapi": "3.1.0",
            "info": { "title": self.title, "version": env!("CARGO_PKG_VERSION"), "description": self.description,
                "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" } },
            "paths": self.paths,
            "components": { "schemas": schemas },
        })
    }
}

/// For tests: the document in this file of the repository is this one. With `DAS_WRITE_DOCS=1` it becomes so.
///
/// # Panics
/// When it is not.
pub fn check(file: &str, document: &Value) {
    let mut path = std::env::current_dir().expect("a test runs in its package");
    while !path.join("docs").is_dir() && path.pop() {}
    let path = path.join(file);
    let text = format!("{document:#}\n");
    if std::env::var_os("DAS_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("the docs can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{file} is stale; run this test with DAS_WRITE_DOCS=1");
}
