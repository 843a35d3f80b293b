// Shows the rows whose text, or whose benchmark's, holds all words that are typed.
(() => {
  const field = document.querySelector("#filter");
  const found = document.querySelector("#found");
  const topics = [...document.querySelectorAll("section.topic, details.topic")];
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const topic of topics) {
      const name = topic.dataset.words.toLowerCase();
      let any = false;
      for (const row of topic.querySelectorAll(".row")) {
        const group = row.closest(".group");
        const text = `${name} ${group ? group.dataset.peer : ""} ${row.textContent}`.toLowerCase();
        const fits = words.every((word) => text.includes(word));
        row.hidden = !fits;
        any ||= fits;
        count += fits;
      }
      for (const group of topic.querySelectorAll(".group")) {
        group.hidden = words.length > 0 && !group.querySelector(".row:not([hidden])");
      }
      topic.hidden = words.length > 0 && !any;
      if (topic.tagName === "DETAILS") topic.open = words.length > 0 && any;
    }
    found.textContent = words.length ? `${count} figures` : "";
  };
  field.parentElement.hidden = false;
  field.addEventListener("input", show);
  show();
})();
