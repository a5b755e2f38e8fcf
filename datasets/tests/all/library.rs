//! Templates by name, what `check` says of them, rows written anew, languages told.

use paddock_datasets::language::language;
use paddock_datasets::record::Record;
use paddock_datasets::template::{check, clusters, library};
use paddock_datasets::tokenizer::Tokenizer;
use paddock_datasets::writers::{Form, RowWriter, form_of};
use serde_json::{Map, Value, json};

use crate::common::{file, small_model};

#[test]
fn every_bundled_template_has_a_name_and_passes_its_check() {
    let folder = small_model();
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    let mut all = 0;
    for name in clusters::names() {
        let cluster = clusters::bundled(name).unwrap().unwrap();
        assert_eq!(cluster.name, name);
        let columns: Vec<String> =
            cluster.columns.keys().chain(cluster.optional_columns.keys()).cloned().collect();
        for own in &cluster.templates {
            let found = library::find_one(&format!("cluster:{}", own.template.name)).unwrap();
            assert_eq!(found, own.template);
            let faults = check::check(&found, &columns, &cluster.examples, Some(&tokenizer));
            assert_eq!(faults, Vec::<String>::new());
            all += 1;
        }
    }
    assert!(all >= 140, "{all}");
    let several = library::find_one("cluster:sentiment").unwrap_err().to_string();
    assert!(several.contains("cluster:sentiment/question_after"), "{several}");
}

#[test]
fn files_of_every_kind_are_found_by_name() {
    let pairs = "pairs:\n  - name: a\n    input: '{text}?'\n    target: '{label}'\n  - name: b\n    \
                 input: '{label}'\n    target: '{text}'\n    inverted: true\n";
    let (_guard, path) = file("mine.yaml", pairs);
    let path = path.display().to_string();
    assert_eq!(library::find(&path).unwrap().len(), 2);
    assert_eq!(library::find_one(&format!("{path}#b")).unwrap().name, "b");
    let error = library::find_one(&format!("{path}#c")).unwrap_err().to_string();
    assert!(error.contains("there are a, b"), "{error}");
    assert!(library::find_one("nothing").unwrap_err().to_string().contains("alpaca"));
}

#[test]
fn a_template_without_an_answer_is_refused() {
    let template = paddock_datasets::template::Template::jinja("t", "{{ text }}", None);
    let faults = check::check(&template, &[], &[], None);
    assert!(faults[0].contains("line 1") && faults[0].contains("|||"), "{faults:?}");
    let record = Record::from_pairs([("text", json!("a"))]);
    let good = paddock_datasets::template::Template::jinja("t", "{{ text }} ||| {{ lable }}", None);
    let faults = check::check(&good, &["text".into(), "label".into()], &[record], None);
    assert!(faults[0].contains("did you mean \"label\""), "{faults:?}");
}

#[test]
fn rows_are_written_in_every_form() {
    let row = |value: Value| match value {
        Value::Object(columns) => columns,
        _ => Map::new(),
    };
    let write = |form: Form, rows: &[Value]| -> Result<String, std::io::Error> {
        let mut writer = RowWriter::new(Vec::new(), (form, false));
        for value in rows {
            writer.row(&row(value.clone()))?;
        }
        Ok(String::from_utf8(writer.finish()?).unwrap())
    };
    let rows = [json!({"a": "x, \"y\"\n", "b": 1}), json!({"a": null, "b": true})];
    assert_eq!(write(Form::Table(b','), &rows).unwrap(), "a,b\n\"x, \"\"y\"\"\n\",1\n,true\n");
    let array: Vec<Value> = serde_json::from_str(&write(Form::Json, &rows).unwrap()).unwrap();
    assert_eq!(array, rows);
    assert_eq!(write(Form::Json, &[]).unwrap(), "[]\n");
    assert_eq!(write(Form::Jsonl, &rows).unwrap().lines().count(), 2);
    assert!(write(Form::Table(b','), &[json!({"a": 1}), json!({"c": 1})]).is_err());
    assert!(write(Form::Table(b'\t'), &[json!({"a": [1]})]).is_err());
    assert!(form_of(std::path::Path::new("x.jsonl.gz")).is_ok_and(|(_, packed)| packed));
    assert!(form_of(std::path::Path::new("x.parquet")).is_err());
}

#[test]
fn languages_are_told_where_there_is_enough_to_go_by() {
    for (code, text) in [
        ("en", "This is what you have to do with the thing that was in the box."),
        ("de", "Das ist nicht das, was ich mit dem Kasten auf der Wiese machen will."),
        ("fr", "Il est dans la maison et ce que je vous dis est pour les enfants."),
        ("es", "El perro que no está en la casa es de los que se van por el campo."),
        ("ru", "Это простой русский текст."),
        ("ja", "これは日本語の文章です。"),
        ("zh", "这是一个中文句子。"),
    ] {
        assert_eq!(language(text), Some(code), "{text}");
    }
    assert_eq!(language("42 + 17"), None);
    assert_eq!(language("Hello"), None);
}
