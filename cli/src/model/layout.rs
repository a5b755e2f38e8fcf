//! The layout of a safetensors file that is written tensor by tensor.

use std::borrow::Cow;
use std::io::{self, Write};

use paddock_core::weights::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

/// Where everything lies in a safetensors file, just as the crate of that name lays it out: wide element types
/// first, then by name. That crate writes into files of its own; this way tensors pass through a [`Storage`], one in
/// memory at a time.
pub(super) struct Layout {
    header: Vec<u8>,
    /// Numbers of the tensors as they follow each other.
    order: Vec<usize>,
    /// Length of the file.
    pub(super) bytes: u64,
}

impl Layout {
    /// Of tensors by name, element type and shape.
    pub(super) fn of(tensors: Vec<(String, Dtype, Vec<usize>)>) -> anyhow::Result<Layout> {
        let stored = |dtype| match dtype {
            Dtype::F32 => safetensors::Dtype::F32,
            Dtype::Bf16 => safetensors::Dtype::BF16,
            Dtype::F16 => safetensors::Dtype::F16,
        };
        let mut list: Vec<_> = tensors.into_iter().enumerate().collect();
        list.sort_by(|(_, (a, x, _)), (_, (b, y, _))| stored(*y).cmp(&stored(*x)).then(a.cmp(b)));
        let (mut infos, mut order, mut end) = (Vec::new(), Vec::new(), 0);
        for (number, (name, dtype, shape)) in list {
            let start = end;
            end += shape.iter().product::<usize>() * dtype.bytes() as usize;
            let (dtype, data_offsets) = (stored(dtype), (start, end));
            infos.push((name, TensorInfo { dtype, shape, data_offsets }));
            order.push(number);
        }
        let format = [("format".to_string(), "pt".to_string())].into();
        let mut text = serde_json::to_vec(&Metadata::new(Some(format), infos)?)?;
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.append(&mut text);
        let bytes = (header.len() + end) as u64;
        Ok(Layout { header, order, bytes })
    }

    /// Writes the file; `data` gives a tensor's bytes, by its number, when its turn comes.
    pub(super) fn write<'d>(
        &self,
        out: &mut dyn Write,
        data: &dyn Fn(usize) -> io::Result<Cow<'d, [u8]>>,
    ) -> io::Result<()> {
        out.write_all(&self.header)?;
        self.order.iter().try_for_each(|&number| out.write_all(&data(number)?))
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    #[test]
    fn a_file_has_the_bytes_that_the_crate_of_the_format_gives_it() -> anyhow::Result<()> {
        let tensors = [
            ("model.norm.weight", Dtype::F32, vec![3]),
            ("b", Dtype::Bf16, vec![2, 5]),
            ("c", Dtype::F16, vec![7, 1]),
            ("a.10", Dtype::F32, vec![1, 2]),
            ("a.9", Dtype::Bf16, vec![4]),
            ("empty", Dtype::F32, vec![0, 4]),
        ];
        let bytes = |i: usize| {
            let (_, dtype, shape) = &tensors[i];
            vec![i as u8 + 1; shape.iter().product::<usize>() * dtype.bytes() as usize]
        };
        let all: Vec<Vec<u8>> = (0..tensors.len()).map(bytes).collect();
        let described =
            tensors.iter().map(|(name, d, shape)| (name.to_string(), *d, shape.clone()));
        let layout = Layout::of(described.collect())?;
        let mut found = Vec::new();
        layout.write(&mut found, &|i| Ok(Cow::Borrowed(&all[i])))?;
        assert_eq!(found.len() as u64, layout.bytes);
        let views = tensors.iter().zip(&all).map(|((name, dtype, shape), bytes)| {
            let dtype = match dtype {
                Dtype::F32 => safetensors::Dtype::F32,
                Dtype::Bf16 => safetensors::Dtype::BF16,
                Dtype::F16 => safetensors::Dtype::F16,
            };
            (*name, TensorView::new(dtype, shape.clone(), bytes).expect("a tensor"))
        });
        let format = Some([("format".to_string(), "pt".to_string())].into());
        assert_eq!(found, safetensors::serialize(views, format)?);
        let failing = layout.write(&mut Vec::new(), &|_| Err(io::Error::other("no numbers")));
        assert_eq!(failing.unwrap_err().to_string(), "no numbers");
        Ok(())
    }
}
