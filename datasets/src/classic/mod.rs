//! A plain classifier to compare language models with: a linear support vector machine on TF-IDF.
//! It computes what scikit-learn's `TfidfVectorizer()` and `LinearSVC()` compute with their default
//! settings.
//!
//! Why it is written here: the Rust crates with a linear machine (linfa-svm, smartcore) take dense
//! matrices, and 32,000 reviews of 40,000 different words are 10 GB of zeros; the one with sparse rows
//! wraps a C++ library that is not kept any more. What is needed is the one loop in `svm.rs`.

pub mod svm;
pub mod tfidf;

/// A row of features: (feature, value), features ascending.
pub type Sparse = Vec<(u32, f64)>;
