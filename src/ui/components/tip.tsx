import { useEffect, useRef, useState } from "preact/hooks";

const MARGIN = 8;

/** Shows the `data-tip` of what is pointed at, or has the focus. */
export function Tip() {
  const [at, setAt] = useState<HTMLElement | null>(null);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const look = ({ target }: Event) =>
      setAt(target instanceof Element ? target.closest<HTMLElement>("[data-tip]") : null);
    const events = ["mouseover", "focusin"];
    for (const event of events) document.addEventListener(event, look);
    return () => {
      for (const event of events) document.removeEventListener(event, look);
    };
  }, []);
  useEffect(() => {
    const tip = box.current;
    const place = at?.getClientRects()[0];
    if (!tip || !place) return;
    const below = place.top < tip.offsetHeight + MARGIN + 4;
    const left = Math.min(place.left, innerWidth - tip.offsetWidth - MARGIN);
    tip.style.left = `${Math.max(MARGIN, left)}px`;
    tip.style.top = `${below ? place.bottom + MARGIN : place.top - tip.offsetHeight - MARGIN}px`;
  });
  if (!at) return null;
  return (
    <div class="tip" role="tooltip" ref={box}>
      {at.dataset.tip}
    </div>
  );
}
