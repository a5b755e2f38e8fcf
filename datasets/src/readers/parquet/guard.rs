//! Stands between the package's row reader and its page readers: a row group's pages are walked before one of them is
//! read, and each is looked at once it is unpacked.

use std::fs::File;
use std::sync::Arc;

use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::schema::types::{ColumnDescriptor, Type};

use super::content::{self, Rows};
use super::footer;
use super::pages::{self, Chunk};

/// Longest value of a type of fixed length: the package sets aside that much for each.
const LONGEST_FIXED: i32 = 1 << 20;

/// A file whose claims are checked before they are believed.
pub struct Guarded {
    inner: SerializedFileReader<File>,
    file: File,
}

impl Guarded {
    /// Opens a file; the error is in words.
    pub fn open(file: File) -> std::result::Result<Self, String> {
        footer::check(&file)?;
        let own = file.try_clone().map_err(|e| e.to_string())?;
        let inner = SerializedFileReader::new(own).map_err(|e| e.to_string())?;
        let schema = inner.metadata().file_metadata().schema_descr();
        if schema.num_columns() == 0 {
            return Err("it has no columns".to_string());
        }
        for column in schema.columns() {
            if column.type_length() > LONGEST_FIXED {
                let (name, length) = (column.path().string(), column.type_length());
                return Err(format!(
                    "each value of column `{name}` is said to have {length} bytes"
                ));
            }
        }
        Ok(Self { inner, file })
    }
}

impl FileReader for Guarded {
    fn metadata(&self) -> &ParquetMetaData {
        self.inner.metadata()
    }

    fn num_row_groups(&self) -> usize {
        self.inner.num_row_groups()
    }

    /// What is wrong with the row group is said when its first column is asked for: the package's iterator of rows
    /// takes an error here for a mistake of its own.
    fn get_row_group(&self, i: usize) -> Result<Box<dyn RowGroupReader + '_>> {
        let inner = self.inner.get_row_group(i)?;
        let chunks = pages::walk(&self.file, inner.metadata());
        Ok(Box::new(Group { inner, chunks }))
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_file(projection, self)
    }
}

struct Group<'a> {
    inner: Box<dyn RowGroupReader + 'a>,
    chunks: std::result::Result<Vec<Chunk>, String>,
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.inner.metadata()
    }

    fn num_columns(&self) -> usize {
        self.inner.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        let chunk = match &self.chunks {
            Ok(chunks) => &chunks[i],
            Err(why) => return Err(ParquetError::General(why.clone())),
        };
        let columns = self.metadata().columns();
        let lists = columns.iter().filter(|c| c.column_descr().max_rep_level() > 0).count();
        let column = columns[i].column_descr_ptr();
        Ok(Box::new(Pages {
            inner: self.inner.get_column_page_reader(i)?,
            rows: Rows::new(chunk.packed, lists as u64),
            column,
            left: chunk.pages,
            broken: chunk.broken.clone(),
            group_rows: u64::try_from(self.metadata().num_rows()).unwrap_or(0),
        }))
    }

    fn get_column_bloom_filter(&self, i: usize) -> Option<&Sbbf> {
        self.inner.get_column_bloom_filter(i)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// The pages of one column of one row group.
struct Pages {
    inner: Box<dyn PageReader>,
    column: Arc<ColumnDescriptor>,
    rows: Rows,
    /// Pages that were walked and not yet read.
    left: u64,
    broken: Option<String>,
    group_rows: u64,
}

impl Pages {
    /// Whether there is a page that was walked.
    fn another(&self) -> Result<bool> {
        match &self.broken {
            _ if self.left > 0 => Ok(true),
            Some(why) => Err(ParquetError::General(why.clone())),
            None => Ok(false),
        }
    }

    fn wrong(&self, why: &str) -> ParquetError {
        ParquetError::General(format!("column `{}` {why}", self.column.path().string()))
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        if !self.another()? {
            let (begun, rows) = (self.rows.begun, self.group_rows);
            if self.column.max_rep_level() > 0 && begun < rows {
                let why = format!(
                    "holds {begun} rows of {rows}; the file may be damaged: fetch it again"
                );
                return Err(self.wrong(&why));
            }
            return Ok(None);
        }
        self.left -= 1;
        let page = self.inner.get_next_page()?;
        if let Some(page) = &page {
            content::check(page, &self.column, &mut self.rows).map_err(|why| self.wrong(&why))?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        if self.another()? { self.inner.peek_next_page() } else { Ok(None) }
    }

    fn skip_next_page(&mut self) -> Result<()> {
        if self.another()? {
            self.left -= 1;
        }
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        if self.another()? { self.inner.at_record_boundary() } else { Ok(true) }
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
