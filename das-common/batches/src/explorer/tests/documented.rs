//! docs/explorer.md against what is answered.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fake::*;
use crate::types::Away;

const PAGE: &str = include_str!("../../../../../docs/explorer.md");

/// The examples of answers: indented blocks that begin with a brace.
fn examples() -> Vec<Value> {
    let mut blocks: Vec<String> = vec![String::new()];
    for line in PAGE.lines() {
        match line.strip_prefix("    ") {
            Some(code) => blocks.last_mut().unwrap().push_str(code),
            None => blocks.push(String::new()),
        }
    }
    let answers = blocks.iter().filter(|block| block.starts_with('{'));
    answers.map(|block| serde_json::from_str(block).unwrap_or_else(|e| panic!("{e}: {block}"))).collect()
}

/// Where there are values, and of which kind.
fn fields(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(inner) => {
            for (name, value) in inner {
                fields(value, &format!("{path}.{name}"), into);
            }
        }
        Value::Array(inner) => inner.iter().for_each(|value| fields(value, &format!("{path}[]"), into)),
        // Some are null at times.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            into.insert(path.to_owned());
        }
    }
}

fn fields_of(value: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    fields(value, "", &mut all);
    all
}

#[tokio::test]
async fn examples_have_the_fields_that_answers_have() {
    let site = Site::of(vec![certified(1, 0), certified(1, 1)]);
    {
        let mut shelf = site.fake.0.lock();
        shelf.progress.at = Some(shelf.batches[0].block);
        shelf.progress.head = Some(9);
    }
    let paths = [
        "/api/batches?limit=0",
        "/api/batches?limit=1",
        "/api/batches/0?availability=true",
        "/api/batches/0/verify",
        "/api/eras",
        "/api/progress",
    ];
    let examples = examples();
    assert_eq!(examples.len(), paths.len());
    for (path, example) in paths.into_iter().zip(examples) {
        let mut answer = site.get(path).await.json();
        if path.contains("availability") {
            // The rest of it was shown before.
            answer = serde_json::json!({ "availability": answer["availability"] });
        }
        assert_eq!(fields_of(&example), fields_of(&answer), "{path}: {answer}");
    }
    site.fake.0.lock().away = Some(Away { since: 1_795_429_000, why: "...".into() });
    let away = site.json("/api/progress").await["away"].to_string();
    assert!(PAGE.contains(&away), "{away}");
}

#[test]
fn every_route_is_documented() {
    let routes = include_str!("../../explorer.rs");
    let mut count = 0;
    for route in routes.split(".route(\"").skip(1) {
        let route = route.split('"').next().unwrap();
        let written = route.replace("{number}", "NUMBER").replace("{hash}", "HASH").replace("{time}", "TIME");
        let shown = |end: &str| PAGE.contains(&format!("`{written}{end}"));
        assert!(shown("`") || shown("?"), "{route} is not in docs/explorer.md as {written}");
        count += 1;
    }
    assert_eq!(count, 14);
}
