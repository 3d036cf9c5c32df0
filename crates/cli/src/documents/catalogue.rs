//! Our own documents: a catalogue of made-up products, each a function of the seed and its id.

use super::infer::{Column, IdRule, Shape};
use super::value::{Cell, Kind};
use super::{Document, words};
use crate::random::Random;
use serde_json::json;

/// Products in the catalogue of `demo`.
pub const CATALOGUE_SIZE: u64 = 60_000;

/// A seeded catalogue.
#[derive(Clone, Debug)]
pub struct Catalogue {
    seed: u64,
    size: u64,
    shape: Shape,
}

impl Catalogue {
    pub fn new(seed: u64, size: u64) -> Self {
        let columns = [
            ("name", Kind::Text),
            ("description", Kind::Text),
            ("sku", Kind::String),
            ("brand", Kind::String),
            ("category", Kind::String),
            ("price", Kind::Float),
            ("stock", Kind::Bigint),
            ("available", Kind::Bool),
            ("sizes", Kind::Multi),
            ("attributes", Kind::Json),
        ];
        let columns = columns
            .into_iter()
            .map(|(name, kind)| Column { field: name.to_owned(), name: name.to_owned(), kind })
            .collect();
        Self { seed, size, shape: Shape { columns, ids: IdRule::Given } }
    }

    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    pub const fn size(&self) -> u64 {
        self.size
    }

    /// All products, by id from 1.
    pub fn iter(&self) -> impl Iterator<Item = Document> + Send + use<> {
        let seed = self.seed;
        (1..=self.size).map(move |id| product(seed, id))
    }
}

fn product(seed: u64, id: u64) -> Document {
    let mut random = Random::new(seed ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let material = random.pick(&words::MATERIALS);
    let quality = random.pick(&words::QUALITIES);
    let (thing, category) = *random.pick(&words::THINGS);
    let brand = random.pick(&words::BRANDS);
    let colour = random.pick(&words::COLOURS);
    let name = match random.below(4) {
        0 => format!("{brand} {quality} {thing}"),
        1 => format!("{quality} {material} {thing}, {colour}"),
        2 => format!("{thing} \"{brand}\" in {colour}"),
        _ => format!("{brand}'s {material} {thing}"),
    };
    let mut description = format!("{quality} {thing} of {material}, {colour}.");
    for _ in 0..2 + random.below(4) {
        description.push(' ');
        description.push_str(random.pick::<&str>(&words::SENTENCES));
    }
    let cents = 99 + random.below(1_000_000);
    let first_size = random.below(40);
    let sizes = (0..random.below(5)).map(|step| (first_size + 2 * step) as i64).collect();
    let attributes = json!({
        "colour": colour,
        "weight_g": 10 + random.below(20_000),
        "tags": [random.pick(&words::TAGS), random.pick(&words::TAGS)],
        "maker": { "brand": brand, "since": 1900 + random.below(120) },
    });
    let cells = vec![
        Cell::Text(name),
        Cell::Text(description),
        Cell::Text(format!("{:04}-{id:08}", random.below(10_000))),
        Cell::Text((*brand).to_owned()),
        Cell::Text(category.to_owned()),
        Cell::Float((cents as f64 / 100.0) as f32),
        Cell::Int(random.below(5000) as i64),
        Cell::Bool(random.below(10) > 0),
        Cell::Ints(sizes),
        Cell::Json(attributes),
    ];
    Document { id: id as i64, cells }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_gives_the_same_catalogue_every_time_and_another_seed_another() {
        let products = |seed| Catalogue::new(seed, 200).iter().collect::<Vec<_>>();
        assert_eq!(products(1), products(1));
        assert_ne!(products(1), products(2));
    }

    #[test]
    fn products_are_varied_and_need_quoting() {
        let catalogue = Catalogue::new(1, 5000);
        let names: Vec<String> = catalogue.iter().map(|product| product.cells[0].to_string()).collect();
        assert!(names.iter().collect::<BTreeSet<_>>().len() > 4000);
        assert!(names.iter().any(|name| name.contains("\\'")));
        assert!(names.iter().any(|name| name.contains('"')));
        assert!(names.iter().any(|name| !name.is_ascii()));
    }

    #[test]
    fn every_product_has_a_cell_for_every_column() {
        let catalogue = Catalogue::new(1, 100);
        assert!(catalogue.iter().all(|product| product.cells.len() == catalogue.shape().columns.len()));
    }
}
