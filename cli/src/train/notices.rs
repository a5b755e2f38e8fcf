//! What a person should know before a run.

use super::setup::Setup;

/// Fewer held-out rows than this say little.
const FEW_HELD_OUT: usize = 20;

/// What a person should know before a run: double counting, rows that cannot teach, odd prompts.
pub fn notices(setup: &Setup) -> Vec<String> {
    let report = &setup.report;
    let mut notices = Vec::new();
    let held_out = setup.validation.len();
    if (1..FEW_HELD_OUT).contains(&held_out) {
        notices.push(format!(
            "only {held_out} rows are held out to judge by, so the loss on them is a rough guide; more rows, \
             or --validation FILE, make it a better one"
        ));
    }
    if !setup.opened.unused.is_empty() {
        notices.push(format!(
            "{} tensors of the model's files are not used, such as `{}`",
            setup.opened.unused.len(),
            setup.opened.unused[0]
        ));
    }
    notices.extend(setup.opened.folder.odd_index.clone());
    if report.prefix_mismatches.total > 0 {
        notices.push(format!(
            "in {} of the first {} rows the prompt alone is cut into other tokens than the prompt with \
             its answer (rows {:?}); let the template end the prompt with a line break or a space",
            report.prefix_mismatches.total,
            report.rows_read.min(256),
            report.prefix_mismatches.first
        ));
    }
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
    if report.duplicates.total > 0 {
        notices
            .push(format!("{} rows are equal to others; they are used", report.duplicates.total));
    }
    notices
}
