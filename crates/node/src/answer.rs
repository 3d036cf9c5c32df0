//! One shape for what a client is told, whoever answered, and its two dresses: values as text (MySQL) and JSON.

use engine::{Column, ColumnKind, Reply, ResultSet, Value};
use serde_json::{Map, Value as Json, json};

/// A statement's success as it goes to a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Engine(Reply),
    /// The sidecar's `message`, unchanged.
    Sidecar {
        message: Json,
        status: u16,
    },
}

/// A value as the text protocol shows it; `None` is NULL.
pub(crate) fn text(value: &Value, kind: ColumnKind) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Int(number) => Some(number.to_string()),
        // A float column has single precision: its shortest text is that of the single.
        Value::Float(number) if kind == ColumnKind::Float => Some((*number as f32).to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.clone()),
    }
}

fn json_value(value: &Value, kind: ColumnKind) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Int(number) => json!(number),
        Value::Float(number) if kind == ColumnKind::Float => {
            // Through its text, or 1.1 would show as 1.10000002384185791.
            (*number as f32).to_string().parse::<f64>().map_or(Json::Null, |number| json!(number))
        }
        Value::Float(number) => json!(number),
        Value::Text(text) => json!(text),
    }
}

const fn type_name(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Long => "long",
        ColumnKind::LongLong => "long long",
        ColumnKind::Float => "float",
        ColumnKind::Double => "double",
        ColumnKind::Text => "string",
    }
}

fn kind_of(type_name: &str) -> ColumnKind {
    match type_name {
        "long" => ColumnKind::Long,
        "long long" => ColumnKind::LongLong,
        "float" => ColumnKind::Float,
        "double" => ColumnKind::Double,
        _ => ColumnKind::Text,
    }
}

/// The body of `/sql?mode=raw`.
pub(crate) fn raw_json(reply: &Reply) -> Json {
    match reply {
        Reply::Done { affected } => json!([{ "total": affected, "error": "", "warning": "" }]),
        Reply::Rows(set) => {
            let columns: Vec<Json> = set
                .columns
                .iter()
                .map(|column| json!({ &column.name: { "type": type_name(column.kind) } }))
                .collect();
            let data: Vec<Json> = set.rows.iter().map(|row| object(&set.columns, row).into()).collect();
            json!([{ "columns": columns, "data": data, "total": set.total, "error": "", "warning": set.warning }])
        }
    }
}

/// The body of plain `/sql`: search hits.
pub(crate) fn hits_json(set: &ResultSet) -> Json {
    let hit = |row: &Vec<Value>| {
        let mut source = object(&set.columns, row);
        let id = source.remove("id");
        let score = source.remove("weight()").unwrap_or_else(|| json!(1));
        match id {
            Some(id) => json!({ "_id": id, "_score": score, "_source": source }),
            None => json!({ "_score": score, "_source": source }),
        }
    };
    let hits: Vec<Json> = set.rows.iter().map(hit).collect();
    json!({ "took": 0, "timed_out": false, "hits": { "total": set.total, "total_relation": "eq", "hits": hits } })
}

fn object(columns: &[Column], row: &[Value]) -> Map<String, Json> {
    columns
        .iter()
        .zip(row)
        .map(|(column, value)| (column.name.clone(), json_value(value, column.kind)))
        .collect()
}

/// What a sidecar's `message` says to a MySQL client; the error text when it is one.
pub(crate) fn of_sidecar(message: &Json) -> Result<Reply, String> {
    let set = match message {
        Json::Array(sets) => sets.first(),
        other => Some(other),
    };
    let set = set.and_then(Json::as_object).ok_or("the sidecar sent no result set")?;
    match set.get("error") {
        Some(Json::String(error)) if !error.is_empty() => return Err(error.clone()),
        Some(Json::String(_) | Json::Null) | None => {}
        Some(other) => return Err(other.to_string()),
    }
    let total = set.get("total").and_then(Json::as_u64).unwrap_or_default();
    let Some(columns) = set.get("columns").and_then(Json::as_array) else {
        return Ok(Reply::Done { affected: total });
    };
    let columns =
        columns.iter().map(column).collect::<Option<Vec<_>>>().ok_or("the sidecar sent odd columns")?;
    let data = set.get("data").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let rows =
        data.iter().map(|row| columns.iter().map(|column| value(row.get(&column.name))).collect()).collect();
    let warning = set.get("warning").and_then(Json::as_str).unwrap_or_default().to_owned();
    Ok(Reply::Rows(ResultSet { columns, rows, total, warning }))
}

fn column(column: &Json) -> Option<Column> {
    let (name, properties) = column.as_object()?.iter().next()?;
    let kind = properties.get("type").and_then(Json::as_str).map_or(ColumnKind::Text, kind_of);
    Some(Column { name: name.clone(), kind })
}

fn value(value: Option<&Json>) -> Value {
    match value {
        None | Some(Json::Null) => Value::Null,
        Some(Json::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(float)) if number.as_u64().is_none() => Value::Float(float),
            _ => Value::Text(number.to_string()),
        },
        Some(Json::String(text)) => Value::Text(text.clone()),
        Some(other) => Value::Text(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> ResultSet {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        ResultSet {
            columns: vec![
                column("id", ColumnKind::LongLong),
                column("price", ColumnKind::Float),
                column("title", ColumnKind::Text),
            ],
            rows: vec![vec![Value::Int(-7), Value::Float(f64::from(1.1f32)), Value::Null]],
            total: 1,
            warning: String::new(),
        }
    }

    #[test]
    fn a_single_keeps_its_short_text() {
        assert_eq!(text(&Value::Float(f64::from(1.1f32)), ColumnKind::Float).as_deref(), Some("1.1"));
        assert_eq!(text(&Value::Float(1.5), ColumnKind::Double).as_deref(), Some("1.5"));
        assert_eq!(text(&Value::Null, ColumnKind::Long), None);
    }

    #[test]
    fn json_has_the_recorded_shape_and_reads_back() {
        let reply = Reply::Rows(set());
        assert_eq!(
            raw_json(&reply),
            json!([{"columns": [{"id": {"type": "long long"}}, {"price": {"type": "float"}}, {"title": {"type": "string"}}],
                "data": [{"id": -7, "price": 1.1, "title": null}], "total": 1, "error": "", "warning": ""}])
        );
        let Ok(Reply::Rows(read)) = of_sidecar(&raw_json(&reply)) else { panic!("rows") };
        assert_eq!((read.columns, read.rows[0][0].clone()), (set().columns, Value::Int(-7)));
        let done = raw_json(&Reply::Done { affected: 3 });
        assert_eq!(done, json!([{"total": 3, "error": "", "warning": ""}]));
        assert_eq!(of_sidecar(&done), Ok(Reply::Done { affected: 3 }));
    }

    #[test]
    fn a_sidecars_error_is_an_error_in_every_form() {
        for message in [json!({"error": "no"}), json!([{"error": "no", "total": 0}])] {
            assert_eq!(of_sidecar(&message), Err("no".to_owned()));
        }
        assert!(of_sidecar(&json!([])).is_err() && of_sidecar(&json!(1)).is_err());
    }

    #[test]
    fn plain_sql_answers_with_hits() {
        assert_eq!(
            hits_json(&set())["hits"],
            json!({"total": 1, "total_relation": "eq",
                "hits": [{"_id": -7, "_score": 1, "_source": {"price": 1.1, "title": null}}]})
        );
    }
}
