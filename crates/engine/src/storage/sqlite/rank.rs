//! Relevance: searchd's default ranker, `proximity_bm25`.
//!
//! weight = 1000 × the sum over fields of the longest run of query words in query order, plus
//! ⌊1000 × (0.5 + Σ over words of tf / (tf + 1.2) × idf)⌋ with idf = ln((N − n + 1) / n) / (2 ln(1 + N)) / words in the
//! query: N documents, n of them with the word, tf times in this one.

use super::search::columns;
use super::table::TableFile;
use crate::sql::search::SearchQuery;
use crate::storage::words::words;
use crate::storage::{StorageError, TableSchema};

/// Occurrences of query words read for one query: 16 bytes each. A query above it is refused rather than ranked
/// wrongly.
const HITS_MAX: usize = 4_000_000;

/// A word of the query. One that stands there twice is one keyword with two positions.
#[derive(Debug, PartialEq, Eq)]
struct Keyword {
    word: String,
    prefix: bool,
    /// Numbers of the columns it may stand in.
    columns: Vec<usize>,
    positions: Vec<i64>,
}

/// An occurrence in a document that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    document: u32,
    column: u16,
    offset: u32,
    keyword: u16,
}

/// The weights of the documents `ids` (ascending), in the same order.
pub(super) fn weights(table: &TableFile, query: &SearchQuery, ids: &[i64]) -> Result<Vec<i64>, StorageError> {
    let mut keywords = Vec::new();
    let all: Vec<usize> = table.schema().fields().map(|(at, _)| at).collect();
    collect(query, &all, table.schema(), &mut keywords, &mut 0)?;
    let mut hits = Vec::new();
    let mut idf = Vec::with_capacity(keywords.len());
    for (number, keyword) in keywords.iter().enumerate() {
        let documents = read_hits(table, keyword, number as u16, ids, &mut hits)?;
        let (total, found) = (table.rows() as f64, documents.max(1) as f64);
        idf.push(
            ((total - found + 1.0) / found).ln() / (2.0 * (1.0 + total).ln()) / keywords.len().max(1) as f64,
        );
    }
    hits.sort_unstable();
    let mut weights = Vec::with_capacity(ids.len());
    let mut rest = hits.as_slice();
    for document in 0..ids.len() as u32 {
        let (own, others) = rest.split_at(rest.partition_point(|hit| hit.document <= document));
        weights.push(weight(own, &keywords, &idf));
        rest = others;
    }
    Ok(weights)
}

/// Words that must or may occur, not those that must not.
fn collect(
    query: &SearchQuery,
    allowed: &[usize],
    schema: &TableSchema,
    keywords: &mut Vec<Keyword>,
    position: &mut i64,
) -> Result<(), StorageError> {
    match query {
        SearchQuery::Everything => {}
        SearchQuery::Term { text, .. } | SearchQuery::Phrase(text) => {
            let words = words(text);
            let count = words.len();
            for (at, word) in words.into_iter().enumerate() {
                *position += 1;
                let prefix = at + 1 == count && matches!(query, SearchQuery::Term { prefix: true, .. });
                let same = |known: &&mut Keyword| {
                    known.word == word && known.prefix == prefix && known.columns == allowed
                };
                match keywords.iter_mut().find(same) {
                    Some(known) => known.positions.push(*position),
                    None => {
                        keywords.push(Keyword {
                            word,
                            prefix,
                            columns: allowed.to_vec(),
                            positions: vec![*position],
                        });
                    }
                }
            }
        }
        SearchQuery::All(parts) | SearchQuery::Any(parts) => {
            for part in parts {
                collect(part, allowed, schema, keywords, position)?;
            }
        }
        SearchQuery::AndNot { include, .. } => collect(include, allowed, schema, keywords, position)?,
        SearchQuery::Fields { fields, except, inner } => {
            let limited: Vec<usize> =
                columns(fields, *except, schema)?.into_iter().filter(|at| allowed.contains(at)).collect();
            collect(inner, &limited, schema, keywords, position)?;
        }
    }
    Ok(())
}

/// Appends the keyword's occurrences in the documents `ids`; returns how many documents of the table have it.
fn read_hits(
    table: &TableFile,
    keyword: &Keyword,
    number: u16,
    ids: &[i64],
    hits: &mut Vec<Hit>,
) -> Result<usize, StorageError> {
    // The last code point: no word of the index begins with it.
    let end = format!("{}\u{10ffff}", keyword.word);
    let mut documents = Vec::new();
    let mut overflow = false;
    let mut read = || -> rusqlite::Result<()> {
        let mut statement = if keyword.prefix {
            table
                .connection
                .prepare_cached("SELECT doc, col, offset FROM words WHERE term >= ?1 AND term < ?2")?
        } else {
            table.connection.prepare_cached("SELECT doc, col, offset FROM words WHERE term = ?1")?
        };
        let mut rows = if keyword.prefix {
            statement.query([&keyword.word, &end])?
        } else {
            statement.query([&keyword.word])?
        };
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            if documents.last() != Some(&id) {
                documents.push(id);
            }
            let Ok(document) = ids.binary_search(&id) else { continue };
            let column = row.get_ref(1)?.as_str().ok().and_then(|name| name.get(1..)?.parse().ok());
            let Some(column) = column.filter(|column| keyword.columns.contains(column)) else { continue };
            if hits.len() == HITS_MAX {
                overflow = true;
                break;
            }
            hits.push(Hit {
                document: document as u32,
                column: column as u16,
                offset: row.get(2)?,
                keyword: number,
            });
        }
        Ok(())
    };
    read().map_err(StorageError::failed("search", format!("table '{}'", table.name)))?;
    if overflow {
        return Err(StorageError::Refused(format!(
            "the words of this query occur more than {HITS_MAX} times: add OPTION ranker=none to search without weights"
        )));
    }
    documents.sort_unstable();
    documents.dedup();
    Ok(documents.len())
}

/// The weight of one document from its hits, ordered by field and place.
fn weight(hits: &[Hit], keywords: &[Keyword], idf: &[f64]) -> i64 {
    let mut longest = 0;
    for field in hits.chunk_by(|a, b| a.column == b.column) {
        longest += longest_run(field, keywords);
    }
    let mut bm25 = 0.5;
    for (number, idf) in idf.iter().enumerate() {
        let tf = hits.iter().filter(|hit| usize::from(hit.keyword) == number).count() as f64;
        bm25 += tf / (tf + 1.2) * idf;
    }
    longest * 1000 + (bm25 * 1000.0) as i64
}

/// The longest row of hits whose distances are those of the words in the query.
fn longest_run(field: &[Hit], keywords: &[Keyword]) -> i64 {
    let (mut longest, mut run, mut shift) = (0, 0, None);
    for hit in field {
        let positions = &keywords[usize::from(hit.keyword)].positions;
        let offset = i64::from(hit.offset);
        if positions.iter().any(|position| Some(offset - position) == shift) {
            run += 1;
        } else {
            run = 1;
            shift = positions.first().map(|position| offset - position);
        }
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyword(position: i64) -> Keyword {
        Keyword { word: String::new(), prefix: false, columns: vec![0], positions: vec![position] }
    }

    fn hits(row: &[(u16, u32, u16)]) -> Vec<Hit> {
        row.iter()
            .map(|(column, offset, keyword)| Hit {
                document: 0,
                column: *column,
                offset: *offset,
                keyword: *keyword,
            })
            .collect()
    }

    #[test]
    fn the_recorded_weight_comes_out() {
        // Two documents, one of them with the word, once: recorded as 1643.
        let idf = (2.0f64).ln() / (2.0 * 3.0f64.ln());
        assert_eq!(weight(&hits(&[(0, 2, 0)]), &[keyword(1)], &[idf]), 1643);
    }

    #[test]
    fn words_in_query_order_weigh_more_than_apart_and_each_field_counts() {
        let words = [keyword(1), keyword(2), keyword(3)];
        for (row, run) in [
            (&[(0, 5, 0), (0, 6, 1), (0, 7, 2)][..], 3),
            (&[(0, 5, 0), (0, 9, 1), (0, 10, 2)], 2),
            (&[(0, 5, 2), (0, 6, 1), (0, 7, 0)], 1),
            // One word between: the distance is still that of the query.
            (&[(0, 5, 0), (0, 7, 2)], 2),
        ] {
            assert_eq!(longest_run(&hits(row), &words), run, "{row:?}");
        }
        assert_eq!(weight(&hits(&[(0, 5, 0), (1, 5, 0)]), &words, &[0.0; 3]), 2500);
    }
}
