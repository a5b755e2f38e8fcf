//! Colours, sizes and spacing, light and dark.

use std::collections::BTreeMap;

use eframe::egui::{
    Color32, Context, CornerRadius, FontFamily, FontId, Margin, Shadow, Stroke, Style, TextStyle,
    Theme, Ui, Visuals, vec2,
};

/// The colours of one theme.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    /// Behind everything.
    pub ground: Color32,
    /// The rail on the left.
    pub rail: Color32,
    /// Cards and fields.
    pub surface: Color32,
    /// Stripes, code.
    pub sunken: Color32,
    /// Lines around cards.
    pub line: Color32,
    /// Lines around what can be pressed.
    pub edge: Color32,
    /// Text.
    pub text: Color32,
    /// Text of less weight.
    pub weak: Color32,
    /// What leads on: the main button, the current screen.
    pub accent: Color32,
    /// Text on `accent`.
    pub on_accent: Color32,
    /// Behind what is chosen.
    pub chosen: Color32,
    /// Behind words that are trained, and their text.
    pub trained: (Color32, Color32),
    /// Behind special tokens, and their text.
    pub special: (Color32, Color32),
    /// Behind a warning, and its text.
    pub warn: (Color32, Color32),
    /// Behind a failure, and its text.
    pub bad: (Color32, Color32),
    /// Behind good news, and its text.
    pub good: (Color32, Color32),
    /// The second line of a plot; the first is `accent`.
    pub second: Color32,
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// By day.
pub const LIGHT: Palette = Palette {
    ground: rgb(0xF6F6F2),
    rail: rgb(0xECEDE7),
    surface: rgb(0xFFFFFF),
    sunken: rgb(0xF1F2ED),
    line: rgb(0xDDDED6),
    edge: rgb(0x8B938D),
    text: rgb(0x1C2320),
    weak: rgb(0x545D57),
    accent: rgb(0x17653F),
    on_accent: rgb(0xFFFFFF),
    chosen: rgb(0xDCEBE1),
    trained: (rgb(0xCFEBD9), rgb(0x0B4226)),
    special: (rgb(0xE3DFF6), rgb(0x41308A)),
    warn: (rgb(0xFFF1D6), rgb(0x734600)),
    bad: (rgb(0xFBE6E3), rgb(0x95231B)),
    good: (rgb(0xDDF1E4), rgb(0x0F5131)),
    second: rgb(0xB2500A),
};

/// By night.
pub const DARK: Palette = Palette {
    ground: rgb(0x161A19),
    rail: rgb(0x111413),
    surface: rgb(0x1F2423),
    sunken: rgb(0x191D1C),
    line: rgb(0x343B39),
    edge: rgb(0x7B8681),
    text: rgb(0xE9EDEA),
    weak: rgb(0xA9B3AD),
    accent: rgb(0x74D6A3),
    on_accent: rgb(0x0A2016),
    chosen: rgb(0x26382F),
    trained: (rgb(0x1D4A33), rgb(0xC4F2D6)),
    special: (rgb(0x3A3263), rgb(0xDDD5FF)),
    warn: (rgb(0x3A2D13), rgb(0xF6CB79)),
    bad: (rgb(0x43211E), rgb(0xFFA79E)),
    good: (rgb(0x1C3A2A), rgb(0xB4EBCB)),
    second: rgb(0xF4A860),
};

/// The palette in use.
pub fn palette(ui: &Ui) -> &'static Palette {
    if ui.visuals().dark_mode { &DARK } else { &LIGHT }
}

/// Titles of cards.
pub fn title() -> TextStyle {
    TextStyle::Name("title".into())
}

/// Sets sizes and colours of both themes.
pub fn apply(ctx: &Context) {
    ctx.all_styles_mut(sizes);
    ctx.style_mut_of(Theme::Light, |style| style.visuals = visuals(&LIGHT, false));
    ctx.style_mut_of(Theme::Dark, |style| style.visuals = visuals(&DARK, true));
}

fn sizes(style: &mut Style) {
    let font = |size| FontId::new(size, FontFamily::Proportional);
    style.text_styles = BTreeMap::from([
        (TextStyle::Heading, font(24.0)),
        (title(), font(16.5)),
        (TextStyle::Body, font(14.5)),
        (TextStyle::Button, font(14.5)),
        (TextStyle::Small, font(12.5)),
        (TextStyle::Monospace, FontId::new(13.0, FontFamily::Monospace)),
    ]);
    style.spacing.item_spacing = vec2(8.0, 7.0);
    style.spacing.button_padding = vec2(12.0, 6.0);
    style.spacing.interact_size = vec2(40.0, 28.0);
    style.spacing.menu_margin = Margin::same(6);
    style.spacing.icon_width = 17.0;
    style.spacing.scroll.floating = false;
    style.spacing.scroll.bar_width = 8.0;
    style.interaction.tooltip_delay = 0.2;
    style.animation_time = 0.08;
}

fn visuals(p: &Palette, dark: bool) -> Visuals {
    let mut v = if dark { Visuals::dark() } else { Visuals::light() };
    v.panel_fill = p.ground;
    v.window_fill = p.surface;
    v.window_stroke = Stroke::new(1.0, p.line);
    v.window_corner_radius = CornerRadius::same(10);
    v.menu_corner_radius = CornerRadius::same(8);
    v.popup_shadow =
        Shadow { offset: [0, 4], blur: 16, spread: 0, color: Color32::from_black_alpha(40) };
    v.extreme_bg_color = p.surface;
    v.text_edit_bg_color = Some(p.surface);
    v.faint_bg_color = p.sunken;
    v.code_bg_color = p.sunken;
    v.hyperlink_color = p.accent;
    v.warn_fg_color = p.warn.1;
    v.error_fg_color = p.bad.1;
    v.weak_text_color = Some(p.weak);
    v.selection.bg_fill = p.chosen;
    v.selection.stroke = Stroke::new(1.0, p.accent);
    v.slider_trailing_fill = true;
    let radius = CornerRadius::same(6);
    let w = &mut v.widgets;
    w.noninteractive.bg_fill = p.surface;
    w.noninteractive.weak_bg_fill = p.surface;
    w.noninteractive.bg_stroke = Stroke::new(1.0, p.line);
    w.noninteractive.fg_stroke = Stroke::new(1.0, p.text);
    w.inactive.bg_fill = p.sunken;
    w.inactive.weak_bg_fill = p.surface;
    w.inactive.bg_stroke = Stroke::new(1.0, p.edge);
    w.inactive.fg_stroke = Stroke::new(1.0, p.text);
    for state in [&mut w.hovered, &mut w.active, &mut w.open] {
        state.bg_fill = p.chosen;
        state.weak_bg_fill = p.chosen;
        state.bg_stroke = Stroke::new(1.0, p.accent);
        state.fg_stroke = Stroke::new(1.2, p.text);
        state.expansion = 0.0;
    }
    w.active.bg_stroke = Stroke::new(2.0, p.accent);
    for state in
        [&mut w.noninteractive, &mut w.inactive, &mut w.hovered, &mut w.active, &mut w.open]
    {
        state.corner_radius = radius;
    }
    v
}

/// Contrast of two colours by WCAG 2: from 1 to 21.
pub fn contrast(a: Color32, b: Color32) -> f64 {
    let channel = |x: u8| {
        let x = f64::from(x) / 255.0;
        if x <= 0.04045 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
    };
    let light =
        |c: Color32| 0.2126 * channel(c.r()) + 0.7152 * channel(c.g()) + 0.0722 * channel(c.b());
    let (a, b) = (light(a), light(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

impl Palette {
    /// Every text colour with every colour that it stands on.
    pub fn pairs(&self) -> Vec<(&'static str, Color32, Color32)> {
        let mut pairs = Vec::new();
        let grounds = [self.ground, self.rail, self.surface, self.sunken, self.chosen];
        for ground in grounds {
            pairs.push(("text", self.text, ground));
            pairs.push(("weak text", self.weak, ground));
            pairs.push(("accent", self.accent, ground));
        }
        pairs.push(("on accent", self.on_accent, self.accent));
        for (name, (back, front)) in [
            ("trained", self.trained),
            ("special", self.special),
            ("warning", self.warn),
            ("failure", self.bad),
            ("good news", self.good),
        ] {
            pairs.push((name, front, back));
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_text_can_be_read() {
        for (theme, palette) in [("light", LIGHT), ("dark", DARK)] {
            for (name, front, back) in palette.pairs() {
                let contrast = contrast(front, back);
                assert!(contrast >= 4.5, "{theme}: {name} {front:?} on {back:?}: {contrast:.2}");
            }
            for line in [palette.accent, palette.second, palette.edge] {
                // What is drawn needs 3 to 1.
                assert!(contrast(line, palette.surface) >= 3.0, "{theme}: {line:?}");
            }
        }
    }

    #[test]
    fn contrast_is_that_of_the_standard() {
        assert!((contrast(Color32::BLACK, Color32::WHITE) - 21.0).abs() < 1e-9);
        // The grey that is just enough on white.
        assert!((contrast(rgb(0x767676), Color32::WHITE) - 4.54).abs() < 0.01);
    }
}
