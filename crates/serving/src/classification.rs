//! The protocol's classification extension: instead of a row's numbers, the largest of them with their places.

use crate::refusal::{Answer, Refusal};
use inference::{Data, Tensor};

/// `value:index` of the `k` largest elements of each row, largest first, as BYTES of shape [rows, k].
pub fn largest(output: &Tensor, k: usize) -> Answer<Tensor> {
    let values: Vec<f64> = match &output.data {
        Data::Fp32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Data::Fp64(values) => values.clone(),
        Data::Int64(values) => values.iter().map(|value| *value as f64).collect(),
        Data::Int32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        other => {
            let (name, datatype) = (&output.name, other.datatype());
            return Err(Refusal::malformed(format!("output \"{name}\" is {datatype}; classes are taken of numbers")));
        }
    };
    let width = output.row_len().max(1);
    let k = k.min(width);
    let mut texts = Vec::with_capacity(values.len() / width * k);
    for row in values.chunks(width) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        texts.extend(order.iter().take(k).map(|index| format!("{}:{index}", row[*index]).into_bytes()));
    }
    let rows = texts.len().checked_div(k).unwrap_or(0);
    Ok(Tensor::new(output.name.as_str(), vec![rows, k], Data::Bytes(texts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first() {
        let output = Tensor::new("p", vec![2, 3], Data::Fp32(vec![0.1, 0.75, 0.15, 0.5, 0.25, 0.25]));
        let classes = largest(&output, 2).unwrap();
        let Data::Bytes(texts) = &classes.data else { panic!() };
        let texts: Vec<&str> = texts.iter().map(|text| std::str::from_utf8(text).unwrap()).collect();
        assert_eq!((classes.shape.as_slice(), texts[0], texts[2]), (&[2, 2][..], "0.75:1", "0.5:0"));
        assert_eq!(texts[3], "0.25:1");
    }
}
