import { severityOf } from "../../moderation/labels.js";
import { percent } from "./severity.js";

interface Props {
  title: string;
  labels: readonly string[];
  /** In the order of `labels`; they add up to 1. */
  probabilities: readonly number[];
  /** Whether the labels are risks, which have colours. */
  risks?: boolean;
}

/** All labels of a verdict with their probabilities, the likeliest first. */
export function Distribution({ title, labels, probabilities, risks = false }: Props) {
  const order = labels.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
  return (
    <table class="distribution">
      <caption>{title}</caption>
      <tbody>
        {order.map((i) => (
          <tr key={labels[i]}>
            <th scope="row">{labels[i]}</th>
            <td class="bar">
              <span
                class={risks ? severityOf(labels[i]) : "neutral"}
                style={{ width: `${(100 * probabilities[i]).toFixed(1)}%` }}
              />
            </td>
            <td class="number">{percent(probabilities[i])}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
