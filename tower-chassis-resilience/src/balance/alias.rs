use super::pick::Rng;

/// Draws indices in proportion to weights, in constant time (Walker's table, built by Vose's method).
#[derive(Debug)]
pub(super) struct Alias(Box<[Cell]>);

#[derive(Clone, Copy, Debug)]
struct Cell {
    /// The share of the cell that is its own index, of 2^32.
    own: u64,
    other: usize,
}

const ONE: u64 = 1 << 32;

impl Alias {
    /// A table for these weights, not all of them 0.
    pub(super) fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let scale = weights.len() as f64 / total.max(1) as f64;
        let mut shares: Vec<f64> = weights
            .iter()
            .map(|weight| f64::from(*weight) * scale)
            .collect();
        let mut cells: Vec<Cell> = (0..weights.len())
            .map(|other| Cell { own: ONE, other })
            .collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..shares.len()).partition(|i| shares[*i] < 1.0);
        while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
            cells[poor] = Cell {
                own: (shares[poor] * ONE as f64) as u64,
                other: rich,
            };
            shares[rich] -= 1.0 - shares[poor];
            if shares[rich] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        // What rounding left over is as good as full, unless it must never be drawn.
        for left in small {
            if weights[left] == 0 {
                let other = large
                    .first()
                    .copied()
                    .or_else(|| weights.iter().position(|weight| *weight > 0));
                cells[left] = Cell {
                    own: 0,
                    other: other.unwrap_or(left),
                };
            }
        }
        Self(cells.into_boxed_slice())
    }

    pub(super) fn draw(&self, rng: &mut Rng) -> usize {
        let index = rng.below(self.0.len());
        match self.0.get(index) {
            Some(cell) if u64::from(rng.word()) >= cell.own => cell.other,
            _ => index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_in_proportion() {
        for weights in [
            &[1, 1, 1][..],
            &[100, 1],
            &[0, 3, 0, 1],
            &[7],
            &[1, 2, 3, 4, 5, 6, 7, 8, 0, 90],
        ] {
            let (table, mut rng) = (Alias::new(weights), Rng::seeded(7));
            let mut drawn = vec![0_u32; weights.len()];
            for _ in 0..100_000 {
                drawn[table.draw(&mut rng)] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (weight, drawn) in weights.iter().zip(drawn) {
                let share = 100_000.0 * f64::from(*weight) / f64::from(total);
                assert!(
                    (f64::from(drawn) - share).abs() <= 5.0 * share.sqrt(),
                    "{weights:?}: {drawn} of {share}"
                );
            }
        }
    }
}
