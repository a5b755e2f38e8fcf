//! A table of which only the rows in view are drawn, however many there are.

use eframe::egui::{
    Align, Color32, Label, Layout, Rect, RichText, Role, ScrollArea, Sense, Ui, UiBuilder,
    WidgetInfo, pos2, vec2,
};
use paddock_cli::data::table::Table;

use crate::data::cell;
use crate::theme::palette;

/// Height of a row.
const ROW: f32 = 24.0;

/// The rows that are in view; the row that was pressed.
pub fn table_ui(
    ui: &mut Ui,
    table: &Table,
    which: Option<&[u32]>,
    chosen: usize,
    height: f32,
) -> Option<usize> {
    let p = palette(ui);
    let columns = &table.detected.columns;
    let count = which.map_or(table.rows.len(), <[u32]>::len);
    let widths = widths(table);
    let total: f32 = 58.0 + widths.iter().sum::<f32>();
    let mut pressed = None;
    ScrollArea::horizontal().id_salt("wide").show(ui, |ui| {
        ui.set_min_width(total.max(ui.available_width()));
        ui.spacing_mut().item_spacing.y = 0.0;
        line_ui(ui, p.weak, "row", columns.iter().map(String::as_str), &widths, true);
        ui.separator();
        let rows =
            ScrollArea::vertical().id_salt("rows").max_height(height).auto_shrink([false, true]);
        rows.show_rows(ui, ROW, count, |ui, range| {
            for i in range {
                let row = which.map_or(i, |hits| hits[i] as usize);
                let record = &table.rows[row];
                let rect = ui.available_rect_before_wrap();
                let rect = Rect::from_min_size(rect.min, vec2(rect.width(), ROW));
                let fill = match (row == chosen, i % 2) {
                    (true, _) => p.chosen,
                    (false, 0) => p.surface,
                    (false, _) => p.sunken,
                };
                ui.painter().rect_filled(rect, 4.0, fill);
                let cells: Vec<String> = columns.iter().map(|c| cell(record, c)).collect();
                let cells = cells.iter().map(String::as_str);
                line_ui(ui, p.text, &(record.row + 1).to_string(), cells, &widths, false);
                let id = ui.scope_id().with(("row", row));
                let response = ui.interact(rect, id, Sense::click());
                let label = format!("Row {}", record.row + 1);
                response.widget_info(|| {
                    WidgetInfo::selected(Role::Button, true, row == chosen, &label)
                });
                if response.clicked() {
                    pressed = Some(row);
                }
            }
        });
    });
    pressed
}

/// Widths by the first rows: short columns are narrow.
fn widths(table: &Table) -> Vec<f32> {
    let width = |column: &String| {
        let longest = table.rows.iter().take(20).map(|r| cell(r, column).chars().count()).max();
        let chars = longest.unwrap_or(0).max(column.chars().count());
        (chars as f32 * 7.4 + 14.0).clamp(54.0, 300.0)
    };
    table.detected.columns.iter().map(width).collect()
}

fn line_ui<'a>(
    ui: &mut Ui,
    colour: Color32,
    first: &'a str,
    cells: impl Iterator<Item = &'a str>,
    widths: &[f32],
    strong: bool,
) {
    let origin = ui.cursor().min;
    let mut x = origin.x + 6.0;
    let weak = palette(ui).weak;
    let all = std::iter::once((first, 52.0)).chain(cells.zip(widths.iter().copied()));
    for (i, (text, width)) in all.enumerate() {
        let rect = Rect::from_min_size(pos2(x, origin.y + 3.0), vec2(width - 8.0, ROW - 4.0));
        let colour = if i == 0 { weak } else { colour };
        let text = RichText::new(text).small().color(colour);
        let text = if strong { text.strong() } else { text };
        let mut cell = ui.new_child(
            UiBuilder::new().max_rect(rect).layout(Layout::left_to_right(Align::Center)),
        );
        cell.set_clip_rect(rect.intersect(ui.clip_rect()));
        cell.add(Label::new(text).truncate().selectable(false));
        x += width;
    }
    ui.allocate_space(vec2(x - origin.x, ROW));
}
