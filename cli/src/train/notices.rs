//! What a person should know before a run.

use std::collections::BTreeSet;

use paddock_core::model::Method;
use paddock_core::weights::Dtype;
use paddock_datasets::encode::DropReason;

use super::setup::Setup;
use crate::model::adapter::dtype_name;
use crate::run::config::Parameters;

/// Fewer held-out rows than this say little.
const FEW_HELD_OUT: usize = 20;

/// What a person should know before a run: double counting, rows that cannot teach, odd prompts.
pub fn notices(setup: &Setup) -> Vec<String> {
    let report = &setup.report;
    let mut notices = judged_by(setup);
    if !setup.opened.unused.is_empty() {
        notices.push(format!(
            "{} tensors of the model's files are not used, such as `{}`",
            setup.opened.unused.len(),
            setup.opened.unused[0]
        ));
    }
    notices.extend(setup.opened.folder.odd_index.clone());
    notices.extend(rounded(setup));
    if report.prefix_mismatches.total > 0 {
        notices.push(format!(
            "in {} of the first {} rows the prompt alone is cut into other tokens than the prompt with \
             its answer (rows {:?}); let the template end the prompt with a line break or a space",
            report.prefix_mismatches.total,
            report.rows_read.min(256),
            report.prefix_mismatches.first
        ));
    }
    notices.extend(too_long(setup));
    if report.special_text > 0 {
        notices.push(format!(
            "text like a control token occurs {} times in the rows; it is read as plain text",
            report.special_text
        ));
    }
    if report.answers_ended < report.answers {
        notices.push(format!(
            "{} of {} answers do not end with an end token, so the model may not learn to stop",
            report.answers - report.answers_ended,
            report.answers
        ));
    }
    if report.duplicates.total > 0 {
        notices
            .push(format!("{} rows are equal to others; they are used", report.duplicates.total));
    }
    notices
}

/// Of the rows to judge by: how few they are, and which of them are not used.
fn judged_by(setup: &Setup) -> Vec<String> {
    let mut notices = Vec::new();
    let held_out = setup.validation.len();
    if (1..FEW_HELD_OUT).contains(&held_out) {
        notices.push(format!(
            "only {held_out} rows are held out to judge by, so the loss on them is a rough guide; more rows, \
             or --validation FILE, make it a better one"
        ));
    }
    if let (Some(file), Some(report)) = (&setup.validation_file, &setup.validation_report) {
        let left_out = report.left_out();
        let kinds: Vec<String> =
            left_out.iter().map(|(reason, rows)| format!("{rows} {reason}")).collect();
        if !kinds.is_empty() {
            notices.push(format!("{file}: rows that are not judged by: {}", kinds.join(", ")));
        }
    }
    if setup.shared > 0 {
        notices.push(format!(
            "{} held-out rows have a text that is trained on too; they were left out",
            setup.shared
        ));
    }
    if setup.shared_tests > 0 {
        notices.push(format!(
            "{} test rows have a text that is trained on too; they were left out",
            setup.shared_tests
        ));
    }
    // The file of test rows is read last.
    if let Some(file) = setup.files.last().filter(|_| !setup.test.is_empty()) {
        notices.extend(file.notes.iter().map(|note| format!("{}: {note}", file.path.display())));
    }
    notices
}

/// Rows above the limit, by what became of them, and the setting that would keep them whole.
fn too_long(setup: &Setup) -> Option<String> {
    let report = &setup.report;
    let reasons = [DropReason::TooLong, DropReason::AnswerTooLong];
    let dropped = reasons.iter().filter_map(|reason| report.dropped.get(reason));
    let (dropped, cut) = (dropped.map(|counted| counted.total).sum::<u64>(), report.cut.total);
    let what = match (dropped, cut) {
        (0, 0) => return None,
        (_, 0) => format!("{dropped} rows are left out"),
        (0, _) => format!("the prompts of {cut} rows are cut at their beginning"),
        _ => format!(
            "{dropped} rows are left out and the prompts of {cut} are cut at their beginning"
        ),
    };
    let limit = setup.max_seq_len;
    let by_batch = setup.config.micro_batch_tokens == limit;
    let by_length = setup.config.max_seq_len == Some(limit);
    let remedy = match (by_length, by_batch) {
        _ if u64::from(setup.opened.folder.config.max_seq_len) <= limit => {
            "this model takes no longer ones, so only shorter rows would be whole"
        }
        (true, true) => "a larger --max-seq-len and --micro-batch-tokens would keep them whole",
        (true, false) => "a larger --max-seq-len would keep them whole",
        _ => "a larger --micro-batch-tokens would keep them whole",
    };
    Some(format!("{what}, because they are longer than {limit} tokens; {remedy}"))
}

/// That model/ has fewer digits than what was trained, where that is so.
fn rounded(setup: &Setup) -> Option<String> {
    if setup.method != Method::Full || setup.config.parameters != Parameters::F32 {
        return None;
    }
    let entries = setup.opened.folder.tensors.values().filter_map(|(_, entry)| entry.dtype());
    let types: BTreeSet<&str> =
        entries.filter(|dtype| *dtype != Dtype::F32).map(dtype_name).collect();
    let types = types.into_iter().collect::<Vec<_>>().join(" and ");
    (!types.is_empty()).then(|| {
        format!(
            "training is in float32, and model/ is written in {types} as the model's own files are, so its numbers \
             are rounded there; checkpoints keep all digits"
        )
    })
}
