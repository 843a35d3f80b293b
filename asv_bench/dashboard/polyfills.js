/* Polyfills: three small plugins that asv's page uses. Sorting of tables by their heads, bars side
   by side, and a key. */
(function ($) {
  "use strict";

  var sorts = {
    string: function (a, b) { return String(a).localeCompare(String(b)); },
    float: function (a, b) { return parseFloat(a) - parseFloat(b); },
    int: function (a, b) { return parseInt(a, 10) - parseInt(b, 10); }
  };

  function valueOf(cell) {
    var value = cell.attr("data-sort-value");
    return value === undefined ? cell.text() : value;
  }

  /* Sorts by a column when its head is clicked; own orders by name, as in data-sort="name". */
  $.fn.stupidtable = function (own) {
    return this.each(function () {
      var table = $(this);
      table.data("orders", $.extend({}, sorts, own));
      table.off("click.sort").on("click.sort", "thead th", function () { $(this).stupidsort(); });
    });
  };

  $.fn.stupidsort = function (direction) {
    return this.each(function () {
      var head = $(this), table = head.closest("table");
      var order = (table.data("orders") || sorts)[head.data("sort")];
      if (!order) { return; }
      var before = head.data("sort-dir");
      var next = before === "asc" ? "desc" : before ? "asc" : head.data("sort-default") || "asc";
      direction = direction || next;
      var column = head.index(), sign = direction === "asc" ? 1 : -1;
      table.trigger("beforetablesort", { column: column, direction: direction, $th: head });
      var rows = table.children("tbody").children("tr").get();
      rows.sort(function (a, b) {
        var cells = [a, b].map(function (row) { return valueOf($(row).children().eq(column)); });
        return sign * order(cells[0], cells[1]);
      });
      table.children("tbody").append(rows);
      table.find("thead th").removeData("sort-dir").removeClass("sorting-desc sorting-asc");
      head.data("sort-dir", direction).addClass("sorting-" + direction);
      table.trigger("aftertablesort", { column: column, direction: direction, $th: head });
    });
  };

  /* Bars of several series stand side by side: each series is moved by its place in the order. */
  if ($.plot) {
    $.plot.plugins.push({
      name: "orderBars",
      version: "1",
      options: { series: { bars: { order: null } } },
      init: function (plot) {
        plot.hooks.processDatapoints.push(function (plot, series, datapoints) {
          if (!series.bars || !series.bars.show || series.bars.order === null) { return; }
          var all = plot.getData().filter(function (s) {
            return s.bars && s.bars.order !== null && s.bars.order !== undefined;
          });
          var width = series.bars.barWidth, place = series.bars.order - (all.length - 1) / 2;
          for (var i = 0; i < datapoints.points.length; i += datapoints.pointsize) {
            datapoints.points[i] += place * width;
          }
        });
      }
    });
  }

  /* asv's page only needs a text that is the same for the same text: a key of what a reader has
     hidden. */
  window.md5 = function (text) { return encodeURIComponent(text); };
})(window.jQuery);
