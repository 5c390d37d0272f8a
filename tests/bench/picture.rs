//! The picture beside the table: one panel a question, one bar for each who was asked.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// What a person compares at a glance.
#[derive(Default)]
pub struct Facts(Vec<Fact>);

struct Fact {
    /// The question, with its unit.
    what: &'static str,
    who: String,
    value: f64,
}

const OURS: &str = "pinnace";
const SIZE: (u32, u32) = (860, 330);
const BAR: i32 = 22;

impl Facts {
    /// What was measured of this project.
    pub fn ours(&mut self, what: &'static str, value: f64) {
        self.theirs(what, OURS, value);
    }

    /// What was measured of somebody else.
    pub fn theirs(&mut self, what: &'static str, who: &str, value: f64) {
        self.0.push(Fact { what, who: who.to_owned(), value });
    }

    /// Draws all of it as SVG.
    pub fn draw(&self, path: &Path) {
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        self.draw_on(&area).expect("the folder of the picture can be written");
    }

    fn draw_on<B: DrawingBackend>(&self, area: &DrawingArea<B, plotters::coord::Shift>) -> Drawn<B> {
        area.fill(&WHITE)?;
        let mut questions: Vec<&str> = Vec::new();
        for fact in &self.0 {
            if !questions.contains(&fact.what) {
                questions.push(fact.what);
            }
        }
        let columns = 2;
        let panels = area.split_evenly((questions.len().div_ceil(columns).max(1), columns));
        for (what, panel) in questions.iter().zip(&panels) {
            let facts: Vec<&Fact> = self.0.iter().filter(|fact| fact.what == *what).collect();
            draw_panel(what, &facts, panel)?;
        }
        area.present()
    }
}

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

fn draw_panel<B: DrawingBackend>(
    what: &str,
    facts: &[&Fact],
    panel: &DrawingArea<B, plotters::coord::Shift>,
) -> Drawn<B> {
    let (left, bars_at) = (12, 118);
    let (width, _) = panel.dim_in_pixel();
    let widest = f64::from(width) - f64::from(bars_at) - 78.0;
    let most = facts.iter().map(|fact| fact.value).fold(f64::MIN_POSITIVE, f64::max);
    let title = ("sans-serif", 15).into_text_style(panel).color(&BLACK);
    panel.draw(&Text::new(what.to_owned(), (left, 10), title))?;
    let middle = Pos::new(HPos::Left, VPos::Center);
    let words = ("sans-serif", 13).into_text_style(panel).color(&BLACK).pos(middle);
    for (at, fact) in facts.iter().enumerate() {
        let top = 36 + at as i32 * (BAR + 8);
        // A bar of no width would look like a missing one.
        let right = bars_at + ((fact.value / most * widest).round() as i32).max(2);
        let colour = if fact.who == OURS { RGBColor(38, 110, 166) } else { RGBColor(176, 184, 192) };
        panel.draw(&Rectangle::new([(bars_at, top), (right, top + BAR)], colour.filled()))?;
        panel.draw(&Text::new(fact.who.clone(), (left, top + BAR / 2), words.clone()))?;
        panel.draw(&Text::new(short(fact.value), (right + 6, top + BAR / 2), words.clone()))?;
    }
    Ok(())
}

/// Three digits that count.
fn short(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}
